import { createSignal, Show } from "solid-js";
import { View } from "../parts/view";
import type { Platform } from "../platform";
import { type CatalogDraft, createCatalogDraft } from "../state/catalog-draft";
import { useCorral } from "../state/corral";
import { createForm, type Form } from "../state/form";
import { CatalogEditor } from "./editor";
import { General } from "./general";

let kept: Edits | undefined;

interface Edits {
  draft: CatalogDraft;
  form: Form;
}

/** What is being edited. It outlives the view, and the page does not go away with it unasked, whatever view is shown. */
function createEdits(platform: Platform): Edits {
  const edits = { draft: createCatalogDraft(platform), form: createForm(platform) };
  addEventListener("beforeunload", (event) => {
    if (edits.draft.dirty() || edits.form.dirty()) event.preventDefault();
  });
  return edits;
}

/** Two tabs: the settings with a field each, and models.toml as text. */
export function SettingsView(props: { part: string }) {
  const corral = useCorral();
  kept ??= createEdits(corral.platform);
  const { draft, form } = kept;
  const isText = () => props.part === "catalog";
  const [actions, setActions] = createSignal<HTMLDivElement>();

  return (
    <View
      title="Settings"
      fill={isText()}
      note={isText() ? (draft.disk()?.path ?? "models.toml") : "What Corral does, and what runs the models"}
      actions={<div class="actions" ref={setActions} />}
    >
      <nav class="tabs" aria-label="Settings">
        <a href="#settings" aria-current={isText() ? undefined : "true"}>
          General
          <Show when={form.dirty()}>
            <span class="mark" title="changed, not saved" />
          </Show>
        </a>
        <a href="#settings/catalog" aria-current={isText() ? "true" : undefined}>
          models.toml
          <Show when={draft.dirty()}>
            <span class="mark" title="changed, not saved" />
          </Show>
        </a>
      </nav>
      <Show when={actions()}>
        {(place) => (
          <Show when={isText()} fallback={<General form={form} actions={place()} />}>
            <CatalogEditor draft={draft} actions={place()} />
          </Show>
        )}
      </Show>
    </View>
  );
}
