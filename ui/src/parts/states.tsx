import { For, type JSX, Show } from "solid-js";
import { createNow } from "../state/now";
import type { ErrorBody } from "../types";
import { Button } from "./controls";
import { Icon, type IconName } from "./icons";

/** What went wrong, what to do about it, and what the server said. */
export function Problem(props: { error: Omit<ErrorBody, "log"> & { log?: string[] }; children?: JSX.Element }) {
  return (
    <div class="problem">
      <Icon name="error" class="bad" />
      <div class="grow">
        <p class="said">{props.error.message}</p>
        <Show when={props.error.hint}>
          <p class="hint">{props.error.hint}</p>
        </Show>
        <Show when={props.error.log?.length}>
          <details>
            <summary>What the server said last</summary>
            <pre>
              <For each={props.error.log}>{(line) => `${line}\n`}</For>
            </pre>
          </details>
        </Show>
        <p class="code">{props.error.code}</p>
      </div>
      {props.children}
    </div>
  );
}

/** In place of a view's content: nothing there, or not for this machine. */
export function Nothing(props: { icon: IconName; title: string; children?: JSX.Element }) {
  return (
    <div class="nothing">
      <Icon name={props.icon} />
      <h2>{props.title}</h2>
      <div>{props.children}</div>
    </div>
  );
}

/** While the first values are on their way. */
export function Loading(props: { what: string }) {
  return (
    <p class="loading-text" role="status">
      <span class="spinner" aria-hidden="true" />
      {props.what}
    </p>
  );
}

/** When a stream is opened again, counted down to those who see it. */
export function NextTry(props: { at: number | null }) {
  const now = createNow(500);
  return (
    <Show when={props.at}>
      {(at) => (
        <span class="muted" aria-hidden="true">
          next try in {Math.max(0, Math.ceil((at() - now()) / 1000))} s
        </span>
      )}
    </Show>
  );
}

/** In place of a view's content that could not be had. */
export function Failed(props: { error: { code: string; message: string; hint: string | null }; retry: () => void }) {
  return (
    <div class="card">
      <Problem error={props.error}>
        <Button icon="refresh" onClick={props.retry}>
          Try again
        </Button>
      </Problem>
    </div>
  );
}
