import { createEffect, createMemo, For, on, onCleanup, onMount, Show } from "solid-js";
import { Portal } from "solid-js/web";
import { changedLines } from "../lib/diff";
import { plural } from "../lib/format";
import { Button } from "../parts/controls";
import { Dialog } from "../parts/dialog";
import { Icon } from "../parts/icons";
import { Failed, Loading, Problem as Said } from "../parts/states";
import type { CatalogDraft } from "../state/catalog-draft";
import { useCorral } from "../state/corral";
import type { Problem } from "../types";

/** What is wrong, without the file and line that are shown beside it. */
function saidOf(problem: Problem): string {
  return problem.error.message.replace(/^\/.*?:\d+: /, "");
}

/** The same at the line itself, where the key can be seen. */
function saidThere(problem: Problem): string {
  const said = saidOf(problem);
  const prefix = `${problem.key}: `;
  return said.startsWith(prefix) ? said.slice(prefix.length) : said;
}

/** models.toml as text, with line numbers and its mistakes where they are. */
export function CatalogEditor(props: { draft: CatalogDraft; actions: HTMLElement }) {
  const corral = useCorral();
  const draft = props.draft;
  let area!: HTMLTextAreaElement;
  let page!: HTMLDivElement;
  void draft.load();

  const saved = () => corral.toast("info", "models.toml is saved");
  const save = async () => {
    if (draft.dirty() && (await draft.save())) saved();
  };
  const onKey = (event: KeyboardEvent) => {
    if (event.key !== "s" || !(event.ctrlKey || event.metaKey)) return;
    event.preventDefault();
    void save();
  };
  addEventListener("keydown", onKey);
  onCleanup(() => removeEventListener("keydown", onKey));

  const lines = createMemo(() => draft.text().split("\n"));
  const placed = createMemo(() => draft.problems().filter((problem) => problem.line !== null));
  const marked = createMemo(() => new Set(placed().map((problem) => problem.line)));
  const widest = createMemo(() => lines().reduce((most, line) => Math.max(most, line.length), 0));

  /** Puts the cursor at a mistake. */
  const go = (problem: Problem) => {
    const line = (problem.line ?? 1) - 1;
    const before = lines()
      .slice(0, line)
      .reduce((sum, text) => sum + text.length + 1, 0);
    const at = before + (problem.column ?? 1) - 1;
    const row = Number.parseFloat(getComputedStyle(area).lineHeight);
    area.focus({ preventScroll: true });
    area.setSelectionRange(at, problem.end_column ? before + problem.end_column - 1 : at);
    page.scrollTo({ top: Math.max(0, line * row - page.clientHeight / 3), left: 0 });
  };

  return (
    <>
      <Portal mount={props.actions} ref={(element) => element.classList.add("actions")}>
        <Show when={draft.dirty()}>
          <span class="muted">Not saved yet</span>
          <Button onClick={draft.discard}>Discard</Button>
        </Show>
        <Button kind="primary" title="Ctrl+S" disabled={!draft.dirty() || draft.saving()} onClick={save}>
          Save
        </Button>
      </Portal>
      <Show
        when={draft.disk()}
        fallback={
          <Show when={draft.failure()} fallback={<Loading what="Reading models.toml" />}>
            {(failure) => <Failed error={failure()} retry={draft.load} />}
          </Show>
        }
      >
        <Show when={draft.failure()}>
          {(failure) => (
            <div class="card failed" role="alert">
              <Said error={failure()} />
            </div>
          )}
        </Show>
        <div class="editor">
          <div class="editor-page" ref={page}>
            <div class="gutter" aria-hidden="true">
              <For each={lines()}>
                {(_, index) => <span classList={{ marked: marked().has(index() + 1) }}>{index() + 1}</span>}
              </For>
            </div>
            <div class="sheet">
              <div class="marks" aria-hidden="true">
                <For each={placed()}>
                  {(problem) => <Mark problem={problem} text={lines()[(problem.line ?? 1) - 1] ?? ""} />}
                </For>
              </div>
              <Area draft={draft} rows={lines().length} columns={widest()} area={(element) => (area = element)} />
            </div>
          </div>
          <div class="mistakes" role="region" aria-label="Mistakes">
            <p class="mistakes-head" role="status">
              <Show
                when={draft.problems().length}
                fallback={
                  <>
                    <Icon name="ok" class="good" /> No mistakes
                  </>
                }
              >
                <Icon name="warning" class="warn" /> {plural(draft.problems().length, "mistake")}
              </Show>
            </p>
            <ul>
              <For each={draft.problems()}>
                {(problem) => (
                  <li>
                    <button type="button" onClick={() => go(problem)}>
                      <span class="where">{problem.line ? `Line ${problem.line}` : "File"}</span>
                      <span class="grow">
                        {saidOf(problem)}
                        <Show when={problem.error.hint}>
                          <span class="hint"> {problem.error.hint}</span>
                        </Show>
                      </span>
                      <span class="code">{problem.error.code}</span>
                    </button>
                  </li>
                )}
              </For>
            </ul>
          </div>
        </div>
      </Show>
      <Show when={draft.conflict()}>{(disk) => <Conflict draft={draft} disk={disk().text} onSaved={saved} />}</Show>
    </>
  );
}

/** The text itself. It is as large as what is in it, so that the page around it scrolls, numbers and marks with it. */
function Area(props: {
  draft: CatalogDraft;
  rows: number;
  columns: number;
  area: (element: HTMLTextAreaElement) => void;
}) {
  let area!: HTMLTextAreaElement;
  onMount(() => props.area(area));
  // Set only where it differs: setting it moves the cursor.
  createEffect(
    on(props.draft.text, (text) => {
      if (area.value !== text) area.value = text;
    }),
  );
  return (
    <textarea
      ref={area}
      aria-label="models.toml"
      wrap="off"
      spellcheck={false}
      autocomplete="off"
      autocapitalize="off"
      rows={props.rows}
      style={{ "min-width": `${props.columns + 2}ch` }}
      aria-invalid={props.draft.problems().length > 0}
      onInput={(event) => props.draft.edit(event.currentTarget.value)}
    />
  );
}

/** A line under a mistake, and what it is behind the end of the line. */
function Mark(props: { problem: Problem; text: string }) {
  const from = () => (props.problem.column ?? 1) - 1;
  const to = () => Math.max(from() + 1, (props.problem.end_column ?? props.text.length + 1) - 1);
  const top = () => `calc(${(props.problem.line ?? 1) - 1} * var(--row))`;
  return (
    <>
      <span class="under" style={{ top: top(), left: `${from()}ch`, width: `${to() - from()}ch` }} />
      <span class="said" style={{ top: top(), left: `${Math.max(props.text.length, to()) + 3}ch` }}>
        {saidThere(props.problem)}
      </span>
    </>
  );
}

/** models.toml has changed on disk since it was read: both texts, and which to keep. */
function Conflict(props: { draft: CatalogDraft; disk: string; onSaved: () => void }) {
  const changed = createMemo(() => changedLines(props.draft.text(), props.disk));
  const settle = async (mine: boolean) => {
    if ((await props.draft.settle(mine)) && mine) props.onSaved();
  };
  return (
    <Dialog
      wide
      title="models.toml has changed on disk meanwhile"
      onClose={props.draft.postpone}
      actions={
        <>
          <Button onClick={props.draft.postpone}>Go on editing</Button>
          <Button onClick={() => settle(false)}>Take the one on disk</Button>
          <Button kind="primary" onClick={() => settle(true)}>
            Save mine over it
          </Button>
        </>
      }
    >
      <p>Lines that only one of them has are marked. Nothing is written before you choose.</p>
      <div class="both">
        <Side name="Yours" text={props.draft.text()} changed={changed()[0]} />
        <Side name="On disk" text={props.disk} changed={changed()[1]} />
      </div>
    </Dialog>
  );
}

function Side(props: { name: string; text: string; changed: Set<number> }) {
  return (
    <section aria-label={props.name}>
      <h3>{props.name}</h3>
      <pre tabIndex={0} role="region" aria-label={`The text: ${props.name}`}>
        <For each={props.text.split("\n")}>
          {(line, index) => <span classList={{ line: true, changed: props.changed.has(index()) }}>{`${line}\n`}</span>}
        </For>
      </pre>
    </section>
  );
}
