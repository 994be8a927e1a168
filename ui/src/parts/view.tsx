import type { JSX } from "solid-js";

/** A view: its heading with what can be done, and its content. */
export function View(props: {
  title: string;
  note?: JSX.Element;
  actions?: JSX.Element;
  fill?: boolean;
  children: JSX.Element;
}) {
  return (
    <section class="view" classList={{ fill: props.fill }} aria-labelledby="view-title">
      <header class="view-head">
        <div class="view-name">
          <h1 id="view-title" tabIndex={-1}>
            {props.title}
          </h1>
          <p class="note">{props.note}</p>
        </div>
        <div class="actions">{props.actions}</div>
      </header>
      {props.children}
    </section>
  );
}
