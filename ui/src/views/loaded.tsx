import { Match, Show, Switch } from "solid-js";
import { ago, context } from "../lib/format";
import { phaseName, progress, stepName, title } from "../lib/operation";
import { Bar, Button } from "../parts/controls";
import { Icon } from "../parts/icons";
import { Problem } from "../parts/states";
import { useCorral } from "../state/corral";
import { createNow } from "../state/now";
import type { OperationView, Snapshot } from "../types";

/** What is loaded, what is going on, and what went wrong last: above the list of models. */
export function Loaded(props: { onStop: () => void; onReload: (model: string) => void }) {
  const corral = useCorral();
  return (
    <Show when={corral.snapshot()}>
      {(snapshot) => (
        <>
          <Switch>
            <Match when={snapshot().operation}>
              {(operation) => <Working operation={operation()} onStop={props.onStop} />}
            </Match>
            <Match when={snapshot().model && snapshot().phase === "ready"}>
              <Serving snapshot={snapshot()} onStop={props.onStop} onReload={props.onReload} />
            </Match>
          </Switch>
          <Show when={snapshot().error}>
            {(error) => (
              <div class="card failed">
                <Problem error={error()} />
              </div>
            )}
          </Show>
        </>
      )}
    </Show>
  );
}

function Working(props: { operation: OperationView; onStop: () => void }) {
  const corral = useCorral();
  const now = createNow(200);
  const at = () => progress(props.operation, now());
  return (
    <div class="card loaded" data-operation={props.operation.kind}>
      <div class="grow">
        <p class="headline">{title(props.operation, corral.modelName)}</p>
        <p class="facts">
          <span>{stepName(props.operation)}</span>
          <span>{at().time}</span>
        </p>
        <Bar share={at().share} label={title(props.operation, corral.modelName)} />
      </div>
      <Show when={props.operation.to}>
        <Button icon="stop" onClick={props.onStop}>
          Stop
        </Button>
      </Show>
    </div>
  );
}

function Serving(props: { snapshot: Snapshot; onStop: () => void; onReload: (model: string) => void }) {
  const corral = useCorral();
  const now = createNow(15_000);
  const engine = () => props.snapshot.engine;
  const model = () => corral.models.list.find((model) => model.id === props.snapshot.model);
  const gateway = () => props.snapshot.gateway;
  return (
    <div class="card loaded">
      <div class="grow">
        <p class="headline">
          <span class="dot ready" aria-hidden="true" />
          {corral.modelName(props.snapshot.model!)}
          <span class="muted weak">{phaseName(props.snapshot.phase).toLowerCase()}</span>
        </p>
        <p class="facts">
          <Show when={gateway()}>
            {(url) => (
              <span>
                Clients use <code>{url()}</code>
              </span>
            )}
          </Show>
          <Show when={model()}>{(loaded) => <span>{context(loaded().ctx)} context</span>}</Show>
          <Show when={engine()?.started_at}>{(at) => <span title={at()}>started {ago(at(), now())}</span>}</Show>
          <Show when={engine()}>
            {(it) => (
              <span class="clip" title={it().container_id}>
                {it().runtime === "docker" ? (it().image ?? "container") : "as a process"}
              </span>
            )}
          </Show>
          <Show when={engine()?.context?.restored_tokens}>
            {(restored) => <span>{context(restored())} tokens of conversation brought back</span>}
          </Show>
        </p>
        <Show when={engine()?.config_changed}>
          <p class="facts warn-text">
            <Icon name="warning" class="warn" />
            Its entry in models.toml has changed since; the next start uses it.
            <Button onClick={() => props.onReload(props.snapshot.model!)}>Load again now</Button>
          </p>
        </Show>
      </div>
      <Button icon="stop" onClick={props.onStop}>
        Stop
      </Button>
    </div>
  );
}
