import { createSignal, For, onCleanup, Show } from "solid-js";
import { asFailure, type Failure } from "../lib/failure";
import { ago, baseName, count, NONE, percent, plural, rate, tokens } from "../lib/format";
import { Chart, type Line } from "../parts/chart";
import { Bar, Button } from "../parts/controls";
import { Dialog } from "../parts/dialog";
import { Energy } from "../parts/energy";
import { Failed, Loading, Nothing } from "../parts/states";
import { View } from "../parts/view";
import { LIVE_SPAN, useCorral } from "../state/corral";
import { createNow } from "../state/now";
import type { Live, LiveSession } from "../types";

/** A rate in the words of a chart. */
const speed = (value: number | null) => (value == null ? NONE : `${rate(value)} tokens/s`);

export function LiveView() {
  const corral = useCorral();
  const [failure, setFailure] = createSignal<Failure | null>(null);
  const stream = corral.watchLive();
  onCleanup(() => stream.stop());
  const load = async () => {
    try {
      await corral.readLive();
      setFailure(null);
    } catch (error) {
      setFailure(asFailure(error));
    }
  };
  void load();
  const retry = () => {
    stream.retry();
    void load();
  };

  return (
    <View title="Live" note="What the model is doing, second by second">
      <Show
        when={corral.live()}
        fallback={
          <Show when={failure()} fallback={<Loading what="Waiting for the first reading" />}>
            {(error) => <Failed error={error()} retry={retry} />}
          </Show>
        }
      >
        {(live) => (
          <>
            <div class="tiles">
              <Tile name="Generated" value={rate(live().tokens_per_second)} unit="tokens/s" />
              <Tile name="Prompt" value={rate(live().prompt_tokens_per_second)} unit="tokens/s" />
              <Tile
                name="Running"
                value={count(live().requests.running)}
                unit={live().requests.running === 1 ? "request" : "requests"}
              />
              <Tile
                name="Waiting"
                value={count(live().requests.waiting)}
                unit={live().requests.waiting === 1 ? "request" : "requests"}
              />
              <Tile name="Prompts out of the cache" value={percent(live().cached_share)} unit="in 15 min" />
            </div>
            <div class="card readings">
              <Speed name="Generated" column={0} now={live().tokens_per_second} />
              <Speed name="Prompt" column={1} now={live().prompt_tokens_per_second} />
            </div>
            <Context live={live()} />
            <Sessions sessions={live().sessions} />
          </>
        )}
      </Show>
    </View>
  );
}

function Tile(props: { name: string; value: string; unit: string }) {
  return (
    <dl class="tile">
      <dt>{props.name}</dt>
      <dd>
        <strong>{props.value}</strong> <span class="muted">{props.unit}</span>
      </dd>
    </dl>
  );
}

/** How fast tokens come, over the last five minutes. */
function Speed(props: { name: string; column: number; now: number | null }) {
  const corral = useCorral();
  const lines: Line[] = [{ label: props.name, color: "--accent", fill: true, format: speed }];
  const data = () => {
    const columns = corral.liveSeries.data();
    return [columns[0], columns[props.column + 1]] as [number[], (number | null)[]];
  };
  return (
    <figure class="reading">
      <figcaption>
        <span class="muted">{props.name}, tokens per second</span>
        <span class="value">{rate(props.now)}</span>
      </figcaption>
      <Chart
        label={`${props.name}, tokens per second over the last five minutes, now ${rate(props.now)}`}
        lines={lines}
        data={data}
        version={corral.live}
        height={9}
        span={LIVE_SPAN}
        max={10}
        axis={(value) => tokens(value)}
      />
    </figure>
  );
}

function Context(props: { live: Live }) {
  return (
    <div class="card">
      <h2>Context in use</h2>
      <Show when={props.live.context} fallback={<p class="muted">No model is loaded.</p>}>
        {(context) => (
          <ul class="slots">
            <For each={context().slots.map((slot) => slot.id)}>
              {(id) => {
                const slot = () =>
                  context().slots.find((one) => one.id === id) ?? { id, used_tokens: 0, total_tokens: 0, busy: false };
                const share = () => (slot().total_tokens ? slot().used_tokens / slot().total_tokens : 0);
                return (
                  <li>
                    <span class="slot-name">
                      Slot {id}
                      <span class="muted">{slot().busy ? " busy" : " idle"}</span>
                    </span>
                    <Bar
                      share={share()}
                      label={`Context in use in slot ${id}`}
                      tone={share() > 0.95 ? "bad" : share() > 0.8 ? "warn" : undefined}
                    />
                    <span class="number">
                      {count(slot().used_tokens)} <span class="muted">of {count(slot().total_tokens)}</span>
                    </span>
                  </li>
                );
              }}
            </For>
          </ul>
        )}
      </Show>
    </div>
  );
}

function Sessions(props: { sessions: LiveSession[] }) {
  const corral = useCorral();
  const now = createNow(15_000);
  const [ending, setEnding] = createSignal<LiveSession | null>(null);
  // Machines without a GPU that counts energy have no such column.
  const measured = () => props.sessions.some((session) => session.energy_joules != null);
  const name = (session: LiveSession) =>
    session.label ?? (session.workspace ? baseName(session.workspace) : session.id);
  const end = (session: LiveSession) => {
    setEnding(null);
    void corral.attempt(async () => {
      await corral.platform.delete("/sessions/{id}", { path: { id: session.id } });
      corral.toast("info", `The session ${name(session)} has ended`);
    });
  };
  return (
    <div class="card">
      <h2>Sessions</h2>
      <Show
        when={props.sessions.length}
        fallback={
          <Nothing icon="terminal" title="No session is attached">
            <p>
              <code>claude-local</code> in a folder opens one.
            </p>
          </Nothing>
        }
      >
        <table class="listing sessions">
          <thead>
            <tr>
              <th scope="col">Session</th>
              <th scope="col">Model</th>
              <th scope="col">Attached</th>
              <th scope="col" class="number">
                Requests
              </th>
              <th scope="col" class="number">
                In
              </th>
              <th scope="col" class="number">
                Cached
              </th>
              <th scope="col" class="number">
                Out
              </th>
              <Show when={measured()}>
                <th scope="col" class="number">
                  Energy
                </th>
              </Show>
              <th scope="col">
                <span class="unseen">Action</span>
              </th>
            </tr>
          </thead>
          <tbody>
            <For each={props.sessions.map((session) => session.id)}>
              {(id) => {
                const session = () => props.sessions.find((one) => one.id === id)!;
                return (
                  <Show when={session()}>
                    <tr data-session={id}>
                      <td class="two">
                        <span class="clip" title={name(session())}>
                          {name(session())}
                        </span>
                        <span class="muted small clip" title={session().workspace ?? undefined}>
                          {session().workspace ?? id}
                        </span>
                      </td>
                      <td>{session().model ? corral.modelName(session().model!) : NONE}</td>
                      <td title={session().started_at}>{ago(session().started_at, now())}</td>
                      <td class="number">
                        {count(session().requests)}
                        <Show when={session().running}>
                          <span class="muted"> ({session().running} running)</span>
                        </Show>
                      </td>
                      <td class="number" title={count(session().tokens_in)}>
                        {tokens(session().tokens_in)}
                      </td>
                      <td class="number" title={count(session().tokens_cached)}>
                        {tokens(session().tokens_cached)}
                      </td>
                      <td class="number" title={count(session().tokens_out)}>
                        {tokens(session().tokens_out)}
                      </td>
                      <Show when={measured()}>
                        <td class="number">
                          <Energy of={session()} />
                        </td>
                      </Show>
                      <td class="act">
                        <Button label={`End the session ${name(session())}`} onClick={() => setEnding(session())}>
                          End
                        </Button>
                      </td>
                    </tr>
                  </Show>
                );
              }}
            </For>
          </tbody>
        </table>
      </Show>
      <Show when={ending()}>
        {(session) => (
          <Dialog
            title={`End the session “${name(session())}”?`}
            onClose={() => setEnding(null)}
            actions={
              <>
                <Button onClick={() => setEnding(null)}>Cancel</Button>
                <Button kind="danger" onClick={() => end(session())}>
                  End the session
                </Button>
              </>
            }
          >
            <p>
              Its token is not taken any more, and what runs in its jail is told to end.
              <Show when={session().running}> {plural(session().running, "request")} of it will break off.</Show>
            </p>
          </Dialog>
        )}
      </Show>
    </div>
  );
}
