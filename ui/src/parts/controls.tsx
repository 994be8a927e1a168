import { createSignal, createUniqueId, For, type JSX, onCleanup, Show } from "solid-js";
import { useCorral } from "../state/corral";
import { Icon, type IconName } from "./icons";

interface ButtonProps {
  icon?: IconName;
  kind?: "primary" | "plain" | "danger";
  /** A name for the screen reader where the text alone says too little. */
  label?: string;
  disabled?: boolean;
  pressed?: boolean;
  class?: string;
  tabIndex?: number;
  title?: string;
  type?: "button" | "submit";
  onClick?: (event: MouseEvent) => void;
  children?: JSX.Element;
}

export function Button(props: ButtonProps) {
  return (
    <button
      type={props.type ?? "button"}
      class={`button ${props.kind ?? ""} ${props.class ?? ""}`}
      classList={{ bare: !props.children }}
      aria-label={props.label}
      aria-pressed={props.pressed}
      disabled={props.disabled}
      tabIndex={props.tabIndex}
      title={props.title ?? (props.children ? undefined : props.label)}
      onClick={props.onClick}
    >
      <Show when={props.icon}>{(icon) => <Icon name={icon()} />}</Show>
      {props.children}
    </button>
  );
}

/** Copies a text, and says that it has. */
export function CopyButton(props: { text: () => string; label: string; children?: JSX.Element }) {
  const corral = useCorral();
  const [copied, setCopied] = createSignal(false);
  let timer: ReturnType<typeof setTimeout> | undefined;
  onCleanup(() => clearTimeout(timer));
  const copy = () =>
    corral.attempt(async () => {
      await corral.platform.copy(props.text());
      setCopied(true);
      clearTimeout(timer);
      timer = setTimeout(() => setCopied(false), 1500);
    });
  return (
    <Button icon={copied() ? "check" : "copy"} label={copied() ? "Copied" : props.label} onClick={copy}>
      <Show when={props.children}>{copied() ? "Copied" : props.children}</Show>
    </Button>
  );
}

interface Choice<T extends string> {
  value: T;
  name: string;
}

/** One of a few, all of them in sight. */
export function Segments<T extends string>(props: {
  label: string;
  choices: Choice<T>[];
  value: T;
  onChoose: (value: T) => void;
}) {
  const group = createUniqueId();
  return (
    <fieldset class="segments">
      <legend class="unseen">{props.label}</legend>
      <For each={props.choices}>
        {(choice) => (
          <label classList={{ chosen: props.value === choice.value }}>
            <input
              type="radio"
              class="unseen"
              name={group}
              checked={props.value === choice.value}
              onChange={() => props.onChoose(choice.value)}
            />
            {choice.name}
          </label>
        )}
      </For>
    </fieldset>
  );
}

export function Search(props: {
  label: string;
  value: string;
  onInput: (value: string) => void;
  onKeyDown?: (event: KeyboardEvent) => void;
}) {
  return (
    <div class="search">
      <Icon name="search" />
      <input
        type="search"
        data-search
        aria-label={props.label}
        placeholder={props.label}
        autocomplete="off"
        spellcheck={false}
        value={props.value}
        onInput={(event) => props.onInput(event.currentTarget.value)}
        onKeyDown={(event) => {
          if (event.key === "Escape" && props.value) {
            event.stopPropagation();
            props.onInput("");
          }
          props.onKeyDown?.(event);
        }}
      />
      <span class="key" aria-hidden="true">
        /
      </span>
    </div>
  );
}

/** A share as a bar; without a value it only says that something goes on. */
export function Bar(props: { share: number | null; label: string; tone?: "warn" | "bad" }) {
  return (
    <div
      class={`bar ${props.tone ?? ""}`}
      classList={{ endless: props.share === null }}
      role="progressbar"
      aria-label={props.label}
      aria-valuemin={0}
      aria-valuemax={100}
      aria-valuenow={props.share === null ? undefined : Math.round(props.share * 100)}
    >
      <div style={{ width: props.share === null ? "30%" : `${Math.min(1, props.share) * 100}%` }} />
    </div>
  );
}
