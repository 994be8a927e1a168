import { createUniqueId, For, type JSX, Show } from "solid-js";

interface Around {
  label: string;
  hint?: JSX.Element;
  changed?: boolean;
}

function Row(props: Around & { id: string; children: JSX.Element; beside?: JSX.Element }) {
  return (
    <div class="field" classList={{ changed: props.changed }}>
      <div class="field-name">
        <label for={props.id}>{props.label}</label>
        <Show when={props.hint}>
          <p class="hint" id={`${props.id}-hint`}>
            {props.hint}
          </p>
        </Show>
      </div>
      <div class="field-value">
        {props.children}
        {props.beside}
      </div>
    </div>
  );
}

export function TextField(
  props: Around & {
    value: string;
    placeholder?: string;
    disabled?: boolean;
    onInput: (value: string) => void;
    beside?: JSX.Element;
  },
) {
  const id = createUniqueId();
  return (
    <Row {...props} id={id}>
      <input
        id={id}
        type="text"
        class="input"
        value={props.value}
        placeholder={props.placeholder}
        disabled={props.disabled}
        spellcheck={false}
        autocomplete="off"
        aria-describedby={props.hint ? `${id}-hint` : undefined}
        onInput={(event) => props.onInput(event.currentTarget.value)}
      />
    </Row>
  );
}

export function SelectField<T extends string>(
  props: Around & {
    value: T;
    choices: { value: T; name: string }[];
    disabled?: boolean;
    onChoose: (value: T) => void;
  },
) {
  const id = createUniqueId();
  return (
    <Row {...props} id={id}>
      <select
        id={id}
        class="input"
        disabled={props.disabled}
        aria-describedby={props.hint ? `${id}-hint` : undefined}
        onChange={(event) => props.onChoose(event.currentTarget.value as T)}
      >
        <For each={props.choices}>
          {(choice) => (
            <option value={choice.value} selected={choice.value === props.value}>
              {choice.name}
            </option>
          )}
        </For>
      </select>
    </Row>
  );
}

export function SwitchField(props: Around & { value: boolean; disabled?: boolean; onSet: (value: boolean) => void }) {
  const id = createUniqueId();
  return (
    <Row {...props} id={id}>
      <input
        id={id}
        type="checkbox"
        role="switch"
        aria-checked={props.value}
        class="switch"
        checked={props.value}
        disabled={props.disabled}
        aria-describedby={props.hint ? `${id}-hint` : undefined}
        onChange={(event) => props.onSet(event.currentTarget.checked)}
      />
    </Row>
  );
}
