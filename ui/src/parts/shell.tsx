import { createEffect, createSignal, For, Match, on, onCleanup, Show, Switch } from "solid-js";
import { phaseName, progress, stepName, title } from "../lib/operation";
import type { View } from "../lib/route";
import { VIEWS } from "../lib/route";
import { type Toast, useCorral } from "../state/corral";
import { createNow } from "../state/now";
import { Bar, Button } from "./controls";
import { Dialog } from "./dialog";
import { Icon } from "./icons";
import { NextTry } from "./states";

export const TITLES: Record<View, string> = {
  models: "Models",
  gpu: "GPU",
  live: "Live",
  logs: "Logs",
  usage: "Usage",
  settings: "Settings",
  health: "Health",
};

/** What runs, at the head of the navigation. */
export function StateBox() {
  const corral = useCorral();
  const now = createNow(250, () => !!corral.snapshot()?.operation);
  const phase = () => corral.snapshot()?.phase;
  const sentence = () => {
    const snapshot = corral.snapshot();
    if (!snapshot) return "";
    const model = snapshot.model ? corral.modelName(snapshot.model) : "No model";
    return `${model}: ${phaseName(snapshot.phase)}`;
  };
  return (
    <div class="state-box">
      <p class="unseen" role="status">
        {sentence()}
      </p>
      <Show when={corral.snapshot()} fallback={<p class="muted">Connecting</p>}>
        {(snapshot) => (
          <>
            <p class="state-model" title={snapshot().model ?? undefined}>
              {snapshot().model ? corral.modelName(snapshot().model!) : "No model"}
            </p>
            <p class="state-phase">
              <span class={`dot ${phase()}`} aria-hidden="true" />
              {phaseName(snapshot().phase)}
            </p>
            <Show when={snapshot().operation}>
              {(operation) => {
                const at = () => progress(operation(), now());
                return (
                  <div class="state-operation">
                    <Bar share={at().share} label={title(operation(), corral.modelName)} />
                    <p class="small">{stepName(operation())}</p>
                    <p class="small muted">{at().time}</p>
                  </div>
                );
              }}
            </Show>
          </>
        )}
      </Show>
    </div>
  );
}

export function Navigation(props: { view: View; onHelp: () => void }) {
  const corral = useCorral();
  return (
    <aside class="side">
      <div class="brand">
        <img src="./corral.svg" alt="" width="20" height="20" />
        Corral
      </div>
      <StateBox />
      <nav aria-label="Views">
        <For each={VIEWS}>
          {(view) => (
            <a href={`#${view}`} aria-current={props.view === view ? "page" : undefined}>
              <Icon name={view} />
              {TITLES[view]}
            </a>
          )}
        </For>
      </nav>
      <div class="side-foot">
        <Show when={corral.platform.openClaude}>
          {(open) => (
            <Button icon="terminal" onClick={() => corral.attempt(() => open()(null))}>
              Open local Claude
            </Button>
          )}
        </Show>
        <div class="side-line">
          <span class="muted small">{corral.snapshot()?.version ?? ""}</span>
          <Button kind="plain" label="Keyboard shortcuts" onClick={props.onHelp}>
            <kbd>?</kbd>
          </Button>
        </div>
      </div>
    </aside>
  );
}

/** Over the view, while no events come. */
export function Banner() {
  const corral = useCorral();
  const lost = () => {
    const connection = corral.connection();
    return connection.state === "lost" ? connection : null;
  };
  return (
    <Show when={lost()}>
      {(connection) => (
        <div class="banner" role="alert">
          <Icon name="unplugged" />
          <p class="grow">
            <strong>{connection().failure.message}.</strong>{" "}
            <Show when={connection().failure.hint}>{(hint) => <>What you see may be old; {hint()}.</>}</Show>
          </p>
          <NextTry at={connection().retryAt} />
          <Button onClick={corral.retry}>Try now</Button>
        </div>
      )}
    </Show>
  );
}

const STAY = 6000;

/** What went wrong interrupts a screen reader; the rest is said when it has finished its sentence. */
export function Toasts() {
  const corral = useCorral();
  const failed = () => corral.toasts().filter((toast) => toast.level === "error");
  const others = () => corral.toasts().filter((toast) => toast.level !== "error");
  let all!: HTMLDivElement;
  const dismiss = (id: number) => {
    const hadFocus = all.contains(document.activeElement);
    corral.dismiss(id);
    // Whoever goes by keyboard goes on with the next one, or with the view.
    const next = all.querySelector<HTMLElement>(".toast button") ?? document.getElementById("view-title");
    if (hadFocus) next?.focus({ preventScroll: true });
  };
  return (
    <div class="toasts" role="region" aria-label="Notices" ref={all}>
      <div class="toast-list">
        <For each={failed()}>{(toast) => <One toast={toast} onDismiss={dismiss} />}</For>
      </div>
      <div class="toast-list" role="status" aria-atomic="false">
        <For each={others()}>{(toast) => <One toast={toast} onDismiss={dismiss} />}</For>
      </div>
    </div>
  );
}

function One(props: { toast: Toast; onDismiss: (id: number) => void }) {
  const { id, level, message, error } = props.toast;
  const [held, setHeld] = createSignal(false);
  let timer: ReturnType<typeof setTimeout> | undefined;
  // Whatever asks for something to be done waits until it is read; plain information goes by itself.
  const stays = level !== "info" || !!error;
  createEffect(
    on(held, (isHeld) => {
      clearTimeout(timer);
      if (!stays && !isHeld) timer = setTimeout(() => props.onDismiss(id), STAY);
    }),
  );
  onCleanup(() => clearTimeout(timer));
  return (
    <div
      class={`toast ${level}`}
      role={level === "error" ? "alert" : undefined}
      onPointerEnter={() => setHeld(true)}
      onPointerLeave={() => setHeld(false)}
      onFocusIn={() => setHeld(true)}
      onFocusOut={() => setHeld(false)}
    >
      <Switch fallback={<Icon name="ok" class="good" />}>
        <Match when={level === "error"}>
          <Icon name="error" class="bad" />
        </Match>
        <Match when={level === "warning"}>
          <Icon name="warning" class="warn" />
        </Match>
      </Switch>
      <div class="grow">
        <p>{message}</p>
        <Show when={error && error.message !== message}>
          <p class="hint">{error!.message}</p>
        </Show>
        <Show when={error?.hint}>
          <p class="hint">{error!.hint}</p>
        </Show>
        <Show when={error}>
          <p class="code">{error!.code}</p>
        </Show>
      </div>
      <Button icon="close" kind="plain" label="Dismiss" onClick={() => props.onDismiss(id)} />
    </div>
  );
}

const SHORTCUTS = [
  ["1 … 7", "go to a view"],
  ["/", "search or filter"],
  ["↑ ↓ Home End", "move in the list of models"],
  ["Enter", "start or switch to the model"],
  ["Space", "in the logs: pause or go on"],
  ["Ctrl S", "in the settings: save"],
  ["Escape", "close, empty the search, dismiss a notice"],
  ["?", "show this"],
];

export function Shortcuts(props: { onClose: () => void }) {
  return (
    <Dialog title="Keyboard shortcuts" onClose={props.onClose}>
      <dl class="shortcuts">
        <For each={SHORTCUTS}>
          {([keys, what]) => (
            <>
              <dt>
                <For each={keys.split(" ")}>{(key) => (key === "…" ? " … " : <kbd>{key}</kbd>)}</For>
              </dt>
              <dd>{what}</dd>
            </>
          )}
        </For>
      </dl>
    </Dialog>
  );
}

/** In place of everything, where the token is missing or not taken. */
export function ComeInAgain() {
  return (
    <main class="outside">
      <img src="./corral.svg" alt="" width="40" height="40" />
      <h1>This page needs to be opened by Corral</h1>
      <p>The key of this tab is missing, or Corral was started anew and has another one. In a terminal:</p>
      <pre>corral dashboard</pre>
      <p class="muted">That opens the dashboard with the present key. The key stays in this tab only.</p>
    </main>
  );
}
