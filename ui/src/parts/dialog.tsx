import { createUniqueId, type JSX, onCleanup, onMount } from "solid-js";
import { Button } from "./controls";

/** A question over everything else: Escape closes it, and the focus goes back to where it was. */
export function Dialog(props: {
  title: string;
  wide?: boolean;
  onClose: () => void;
  actions?: JSX.Element;
  children: JSX.Element;
}) {
  const title = createUniqueId();
  let dialog!: HTMLDialogElement;
  const before = document.activeElement;
  onMount(() => {
    dialog.showModal();
    // The whole of it rather than its first button: nothing is chosen yet.
    dialog.focus();
  });
  // Closing by itself does this too, but not where the dialog is taken away.
  onCleanup(() => before instanceof HTMLElement && queueMicrotask(() => before.focus()));
  return (
    <dialog
      ref={dialog}
      tabIndex={-1}
      classList={{ wide: props.wide }}
      aria-labelledby={title}
      onClose={() => props.onClose()}
      onClick={(event) => event.target === dialog && dialog.close()}
    >
      <div class="dialog">
        <header>
          <h2 id={title}>{props.title}</h2>
          <Button icon="close" kind="plain" label="Close" onClick={() => dialog.close()} />
        </header>
        <div class="dialog-text">{props.children}</div>
        <footer>{props.actions}</footer>
      </div>
    </dialog>
  );
}
