import { createResource, createSignal, For, Show } from "solid-js";
import { asFailure } from "../lib/failure";
import { count, duration, money, percent, tokens } from "../lib/format";
import {
  cost,
  coverage,
  currency,
  dayColumns,
  dayOf,
  rowName,
  SPANS,
  type Span,
  sum,
  usageBars,
  usageCsv,
} from "../lib/usage";
import { Chart, type Line } from "../parts/chart";
import { Button, Segments } from "../parts/controls";
import { Energy } from "../parts/energy";
import { Failed, Loading, Nothing } from "../parts/states";
import { View } from "../parts/view";
import { type Corral, useCorral } from "../state/corral";
import type { UsageBy, UsageRow } from "../types";

const WAYS: { value: UsageBy; name: string }[] = [
  { value: "day", name: "Day" },
  { value: "model", name: "Model" },
  { value: "session", name: "Session" },
];

const HEADS: Record<UsageBy, string> = { day: "Day", model: "Model", session: "Session" };

export function UsageView() {
  const corral = useCorral();
  const [by, setBy] = createSignal<UsageBy>("day");
  const [span, setSpan] = createSignal<Span>("30d");
  const [answer, { refetch }] = createResource(
    () => ({ by: by(), span: span() }),
    async (asked) => {
      const query = { by: asked.by, since: asked.span === "all" ? undefined : asked.span };
      return { ...asked, ...(await corral.platform.get("/usage", { query })) };
    },
  );
  const failure = () => (answer.error ? asFailure(answer.error) : null);
  /** What was there before stays until the next is. */
  const latest = () => (answer.error ? undefined : answer.latest);
  const rows = () => latest()?.rows ?? [];
  const save = () => {
    const name = `corral-usage-${latest()!.by}-${span()}.csv`;
    void corral.attempt(async () => {
      const path = await corral.platform.saveFile(name, usageCsv(rows(), latest()!.by));
      if (path) corral.toast("info", `Saved as ${path}`);
    });
  };

  return (
    <View
      title="Usage"
      note="Tokens by the requests that went through the gateway"
      actions={
        <>
          <Segments label="By" choices={WAYS} value={by()} onChoose={setBy} />
          <Segments label="Since" choices={SPANS} value={span()} onChoose={setSpan} />
          <Button icon="refresh" label="Read again" onClick={() => refetch()} />
          <Button icon="download" disabled={!rows().length} onClick={save}>
            CSV
          </Button>
        </>
      }
    >
      <Show when={!failure()} fallback={<Failed error={failure()!} retry={refetch} />}>
        <Show when={latest()} fallback={<Loading what="Adding up" />}>
          {(shown) => (
            <Show
              when={rows().length}
              fallback={
                <Nothing icon="usage" title="Nothing was asked in this time">
                  <p>Requests to the gateway are counted here.</p>
                </Nothing>
              }
            >
              <div aria-busy={answer.loading} class="stack">
                <Show when={shown().by === "day"} fallback={<Shares rows={rows()} by={shown().by} />}>
                  <Days rows={rows()} span={shown().span} />
                </Show>
                <Table rows={rows()} by={shown().by} price={shown().electricity_price} />
              </div>
            </Show>
          )}
        </Show>
      </Show>
    </View>
  );
}

function Days(props: { rows: UsageRow[]; span: Span }) {
  const columns = () => dayColumns(props.rows, props.span, dayOf(new Date()));
  const lines: Line[] = [
    { label: "In and out", color: "--bar-out", bars: true, format: (value) => tokens(value) },
    { label: "In", color: "--bar-in", bars: true, format: (value) => tokens(value) },
    { label: "In, out of the cache", color: "--bar-cached", bars: true, format: (value) => tokens(value) },
  ];
  return (
    <div class="card">
      <h2>Tokens per day</h2>
      <Chart
        label={`Tokens per day, ${count(props.rows.length)} days; the table below has the numbers`}
        lines={lines}
        data={columns}
        version={() => props.rows}
        height={13}
        max={10}
        axis={(value) => tokens(value)}
        legend
      />
    </div>
  );
}

const PARTS = [
  { part: "cached", name: "In, out of the cache" },
  { part: "read", name: "In, read anew" },
  { part: "written", name: "Out" },
] as const;

/** Tokens of each model or session, as bars of one scale. */
function Shares(props: { rows: UsageRow[]; by: UsageBy }) {
  const corral = useCorral();
  const bars = () => usageBars(props.rows, (row) => nameOf(corral, row, props.by));
  const most = () => Math.max(1, ...bars().map((bar) => bar.total));
  return (
    <figure class="card" aria-labelledby="shares-title">
      <h2 id="shares-title">Tokens per {props.by}</h2>
      <ul class="shares">
        <For each={bars()}>
          {(bar) => (
            <li>
              <span class="clip" title={bar.name}>
                {bar.name}
              </span>
              <span class="shares-bar" aria-hidden="true">
                <For each={PARTS}>
                  {({ part }) => <span class={part} style={{ width: `${(bar[part] / most()) * 100}%` }} />}
                </For>
              </span>
              <span class="number" title={count(bar.total)}>
                {tokens(bar.total)}
                <span class="unseen">
                  {" "}
                  tokens: {tokens(bar.cached + bar.read)} in, {tokens(bar.cached)} of them out of the cache,{" "}
                  {tokens(bar.written)} out
                </span>
              </span>
            </li>
          )}
        </For>
      </ul>
      <figcaption class="shares-legend" aria-hidden="true">
        <For each={PARTS}>
          {({ part, name }) => (
            <span>
              <span class={`swatch ${part}`} />
              {name}
            </span>
          )}
        </For>
      </figcaption>
    </figure>
  );
}

function nameOf(corral: Corral, row: UsageRow, by: UsageBy): string {
  return by === "model" && row.key ? corral.modelName(row.key) : rowName(row, by);
}

function Table(props: { rows: UsageRow[]; by: UsageBy; price: string | null | undefined }) {
  const corral = useCorral();
  const total = () => sum(props.rows);
  // Machines without a GPU that counts energy have no such columns.
  const measured = () => total().energy_joules != null;
  const priced = () => measured() && props.price != null;
  const spent = (row: Pick<UsageRow, "energy_joules">) =>
    money(cost(row.energy_joules, props.price), currency(props.price));
  // The newest day is what is looked for.
  const ordered = () => (props.by === "day" ? [...props.rows].reverse() : props.rows);
  return (
    <div class="card flat">
      <table class="listing usage">
        <thead>
          <tr>
            <th scope="col">{HEADS[props.by]}</th>
            <th scope="col" class="number">
              Requests
            </th>
            <th scope="col" class="number">
              In
            </th>
            <th scope="col" class="number detail">
              Cached
            </th>
            <th scope="col" class="number">
              Out
            </th>
            <th scope="col" class="number detail">
              Time
            </th>
            <Show when={measured()}>
              <th scope="col" class="number">
                Energy
              </th>
            </Show>
            <Show when={priced()}>
              <th scope="col" class="number">
                Cost
              </th>
            </Show>
          </tr>
        </thead>
        <tbody>
          <For each={ordered()}>
            {(row) => (
              <tr>
                <th scope="row" class="clip" title={row.key}>
                  {nameOf(corral, row, props.by)}
                </th>
                <td class="number">{count(row.requests)}</td>
                <td class="number" title={count(row.tokens_in)}>
                  {tokens(row.tokens_in)}
                </td>
                <td class="number detail" title={count(row.tokens_cached)}>
                  {tokens(row.tokens_cached)}
                </td>
                <td class="number" title={count(row.tokens_out)}>
                  {tokens(row.tokens_out)}
                </td>
                <td class="number detail">{duration(row.seconds * 1000)}</td>
                <Show when={measured()}>
                  <td class="number">
                    <Energy of={row} />
                  </td>
                </Show>
                <Show when={priced()}>
                  <td class="number" title={coverage(row) ?? undefined}>
                    {spent(row)}
                  </td>
                </Show>
              </tr>
            )}
          </For>
        </tbody>
        <tfoot>
          <tr>
            <th scope="row">Together</th>
            <td class="number">{count(total().requests)}</td>
            <td class="number">{tokens(total().tokens_in)}</td>
            <td class="number detail">
              {tokens(total().tokens_cached)}
              <Show when={total().tokens_in}>
                <span class="muted weak"> ({percent(total().tokens_cached / total().tokens_in)})</span>
              </Show>
            </td>
            <td class="number">{tokens(total().tokens_out)}</td>
            <td class="number detail">{duration(total().seconds * 1000)}</td>
            <Show when={measured()}>
              <td class="number">
                <Energy of={total()} />
              </td>
            </Show>
            <Show when={priced()}>
              <td class="number" title={coverage(total()) ?? undefined}>
                {spent(total())}
              </td>
            </Show>
          </tr>
        </tfoot>
      </table>
    </div>
  );
}
