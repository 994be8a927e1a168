import { createEffect, createMemo, createSignal, For, on, onCleanup, Show } from "solid-js";
import { bytes, context, count, NONE, plural } from "../lib/format";
import { type Action, actionFor, findModels, stateOf } from "../lib/models";
import { phaseName } from "../lib/operation";
import { quantisation } from "../lib/quant";
import { Button, Search } from "../parts/controls";
import { Icon } from "../parts/icons";
import { createRows } from "../parts/rows";
import { Failed, Loading, Nothing } from "../parts/states";
import { View } from "../parts/view";
import { useCorral } from "../state/corral";
import type { Model, Phase, SwitchPlan } from "../types";
import { Ask } from "./ask";
import { FitDialog, FitMark } from "./fit";
import { Loaded } from "./loaded";

const VERBS: Record<Action, string> = { start: "Start", switch: "Switch", stop: "Stop", none: "" };
const ICONS = { start: "play", switch: "switch", stop: "stop", none: "warning" } as const;
const STATES: Record<string, string> = { available: "", missing: "File missing" };

/** What waits for an answer before it is done. */
export interface Question {
  action: "start" | "switch" | "stop";
  model: string;
  running: number;
  problem?: SwitchPlan["problem"];
}

export function ModelsView() {
  const corral = useCorral();
  const [query, setQuery] = createSignal("");
  const [current, setCurrent] = createSignal<string | null>(null);
  const [question, setQuestion] = createSignal<Question | null>(null);
  /** The model whose fit is told. */
  const [told, setTold] = createSignal<Model | null>(null);
  const found = createMemo(() => findModels(corral.models.list, query()));
  const rows = createRows({ count: () => found().length, rem: 3.25, beyond: 6 });
  const shown = createMemo(() => found().slice(rows.range().from, rows.range().to));
  const problems = () => corral.snapshot()?.catalog.problems ?? [];
  const hasFit = createMemo(() => corral.models.list.some((model) => model.fit));
  /** The row that Tab leads to. */
  const place = createMemo(() =>
    Math.max(
      0,
      found().findIndex((model) => model.id === current()),
    ),
  );
  let list: HTMLDivElement | undefined;

  // Events tell of the catalog and not of the model files: those are looked at when somebody comes to look.
  void corral.loadModels();
  const look = () => void corral.loadModels();
  addEventListener("focus", look);
  onCleanup(() => removeEventListener("focus", look));

  createEffect(on(query, () => rows.scrollTo(0), { defer: true }));

  const stop = (force: boolean) => corral.attempt(() => corral.platform.post("/stop", { force, wait: false }));
  const change = (model: string, force: boolean) =>
    corral.attempt(() => corral.platform.post("/switch", { model, force, wait: false, dry_run: false }));

  const askStop = () =>
    corral.attempt(async () => {
      const status = await corral.platform.get("/status");
      const running = status.phase === "ready" ? (status.requests?.running ?? 0) : 0;
      if (running) setQuestion({ action: "stop", model: status.model ?? "", running });
      else await corral.platform.post("/stop", { force: false, wait: false });
    });

  const askSwitch = (model: string) =>
    corral.attempt(async () => {
      const answer = await corral.platform.post("/switch", { model, dry_run: true, wait: false, force: false });
      const plan = "plan" in answer ? answer.plan : null;
      if (plan?.problem || plan?.requests_running) {
        const action = corral.snapshot()?.model ? "switch" : "start";
        setQuestion({ action, model, running: plan.requests_running, problem: plan.problem });
      } else await corral.platform.post("/switch", { model, wait: false, force: false, dry_run: false });
    });

  const act = (model: Model) => {
    setCurrent(model.id);
    const action = actionFor(model, corral.snapshot());
    if (action === "stop") void askStop();
    if (action === "switch") void askSwitch(model.id);
    // Only a switch can be tried first, and be forced.
    if (action === "start" && model.fit?.hopeless) void askSwitch(model.id);
    else if (action === "start")
      void corral.attempt(() => corral.platform.post("/start", { model: model.id, wait: false }));
  };

  const go = (to: number) => {
    const model = found()[Math.min(found().length - 1, Math.max(0, to))];
    if (!model) return;
    setCurrent(model.id);
    rows.show(place());
    // The row may only now be drawn.
    queueMicrotask(() =>
      list?.querySelector<HTMLElement>(`[data-row="${place()}"] .act button`)?.focus({ preventScroll: true }),
    );
  };
  const onKey = (event: KeyboardEvent) => {
    const page = Math.max(1, Math.floor(rows.height() / rows.row()) - 1);
    const moves: Record<string, number> = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page };
    if (event.key in moves) go(place() + moves[event.key]);
    else if (event.key === "Home") go(0);
    else if (event.key === "End") go(found().length - 1);
    else return;
    event.preventDefault();
  };

  return (
    <View
      title="Models"
      fill
      note={corral.models.loaded ? plural(corral.models.list.length, "model") : undefined}
      actions={
        <Search
          label="Search models"
          value={query()}
          onInput={setQuery}
          onKeyDown={(event) => {
            if (event.key === "ArrowDown") {
              event.preventDefault();
              go(0);
            }
          }}
        />
      }
    >
      <Show when={problems().length}>
        <div class="strip warn">
          <Icon name="warning" class="warn" />
          <p class="grow">
            models.toml has {plural(problems().length, "mistake")}: {problems()[0].message}
          </p>
          <a class="button" href="#settings/catalog">
            Show
          </a>
        </div>
      </Show>
      <Loaded onStop={askStop} onReload={askSwitch} />
      <Show when={corral.models.loaded && corral.models.failure}>
        {(failure) => (
          <div class="strip warn" role="status">
            <Icon name="warning" class="warn" />
            <p class="grow">The list may be old: {failure().message}.</p>
            <Button onClick={() => corral.loadModels()}>Read it again</Button>
          </div>
        )}
      </Show>
      <Show
        when={corral.models.loaded || !corral.models.failure}
        fallback={<Failed error={corral.models.failure!} retry={corral.loadModels} />}
      >
        <Show when={corral.models.loaded} fallback={<Loading what="Reading the models" />}>
          <Show
            when={corral.models.list.length}
            fallback={
              <Nothing icon="models" title="There are no models yet">
                <p>Put a GGUF file into the models folder and give it a table in models.toml.</p>
                <p>
                  <a class="button primary" href="#settings/catalog">
                    Edit models.toml
                  </a>
                </p>
              </Nothing>
            }
          >
            <div
              class="table models"
              classList={{ fits: hasFit() }}
              style={{ "--rows": found().length }}
              role="table"
              aria-label="Models"
              aria-rowcount={found().length + 1}
            >
              <div class="row head" role="row" aria-rowindex={1}>
                <span role="columnheader">Model</span>
                <span role="columnheader" class="detail">
                  Quantisation
                </span>
                <span role="columnheader" class="detail number">
                  Size
                </span>
                <span role="columnheader" class="detail number">
                  Context
                </span>
                <Show when={hasFit()}>
                  <span role="columnheader">Fit</span>
                </Show>
                <span role="columnheader" class="state">
                  State
                </span>
                <span role="columnheader">
                  <span class="unseen">Action</span>
                </span>
              </div>
              <div
                class="body"
                role="rowgroup"
                ref={(element) => {
                  list = element;
                  rows.attach(element);
                }}
                onKeyDown={onKey}
              >
                <Show
                  when={found().length}
                  fallback={
                    <div role="row">
                      <p role="cell" class="none">
                        No model matches “{query()}”.
                      </p>
                    </div>
                  }
                >
                  <div class="sizer" role="presentation" style={{ height: `${rows.total()}px` }}>
                    <For each={shown()}>{(model) => <Row model={model} index={found().indexOf(model)} />}</For>
                  </div>
                </Show>
              </div>
            </div>
          </Show>
        </Show>
      </Show>
      <Show when={told()?.fit}>
        {(known) => <FitDialog model={told()!} fit={known()} onClose={() => setTold(null)} />}
      </Show>
      <Show when={question()}>
        {(asked) => (
          <Ask
            question={asked()}
            onClose={() => setQuestion(null)}
            onAnswer={(force) => {
              const { action, model } = asked();
              setQuestion(null);
              void (action === "stop" ? stop(force) : change(model, force));
            }}
          />
        )}
      </Show>
    </View>
  );

  function Row(props: { model: Model; index: number }) {
    const state = () => stateOf(props.model, corral.snapshot());
    const action = () => actionFor(props.model, corral.snapshot());
    const quant = () => quantisation(props.model.file) ?? "–";
    return (
      <div
        class="row"
        classList={{ current: state() !== "available" && state() !== "missing" }}
        role="row"
        aria-rowindex={props.index + 2}
        data-row={props.index}
        data-model={props.model.id}
        style={{ transform: `translateY(${props.index * rows.row()}px)` }}
      >
        <span role="cell" class="model-name">
          <span class="name" title={props.model.name}>
            {props.model.name}
          </span>
          <span class="about" title={props.model.problem?.message ?? props.model.description ?? props.model.file}>
            <code>{props.model.id}</code>
            <span class="narrow">
              {quant()} · {bytes(props.model.size_bytes)} · {context(props.model.ctx)}
            </span>
            <Show when={props.model.problem} fallback={<span class="text">{props.model.description}</span>}>
              <span class="text bad">{props.model.problem!.message}</span>
            </Show>
          </span>
        </span>
        <span role="cell" class="detail">
          <span class="tag">{quant()}</span>
        </span>
        <span role="cell" class="detail number">
          {bytes(props.model.size_bytes)}
        </span>
        <span
          role="cell"
          class="detail number"
          title={`${count(props.model.ctx)} tokens, ${plural(props.model.parallel, "slot")}`}
        >
          {context(props.model.ctx)}
          <Show when={props.model.parallel > 1}>
            <span class="muted"> / {props.model.parallel}</span>
          </Show>
        </span>
        <Show when={hasFit()}>
          <span role="cell" class="fit">
            <Show when={props.model.fit} fallback={<span class="muted">{NONE}</span>}>
              {(known) => (
                <FitMark
                  model={props.model}
                  fit={known()}
                  tabIndex={props.index === place() ? 0 : -1}
                  onOpen={() => {
                    setCurrent(props.model.id);
                    setTold(props.model);
                  }}
                />
              )}
            </Show>
          </span>
        </Show>
        <span role="cell" class="state">
          <Show when={state() !== "available"}>
            <span class={`dot ${state()}`} aria-hidden="true" />
            {STATES[state()] ?? phaseName(state() as Phase)}
          </Show>
        </span>
        <span role="cell" class="act">
          <Show
            when={action() !== "none"}
            fallback={
              <Button
                tabIndex={props.index === place() ? 0 : -1}
                label={`Why ${props.model.name} cannot be started`}
                onClick={() =>
                  corral.toast(
                    "warning",
                    props.model.problem?.message ?? "the model file is not there",
                    props.model.problem ?? null,
                  )
                }
              >
                Why?
              </Button>
            }
          >
            <Button
              icon={ICONS[action()]}
              label={action() === "switch" ? `Switch to ${props.model.name}` : `${VERBS[action()]} ${props.model.name}`}
              tabIndex={props.index === place() ? 0 : -1}
              onClick={() => act(props.model)}
            >
              {VERBS[action()]}
            </Button>
          </Show>
        </span>
      </div>
    );
  }
}
