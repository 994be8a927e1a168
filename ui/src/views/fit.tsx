import { For, Show } from "solid-js";
import { fitMark } from "../lib/fit";
import { bytes, count } from "../lib/format";
import { Button } from "../parts/controls";
import { Dialog } from "../parts/dialog";
import { Icon } from "../parts/icons";
import type { Fit, Model } from "../types";

/** How well a model fits; it opens what there is to say about that. */
export function FitMark(props: { model: Model; fit: Fit; tabIndex: number; onOpen: () => void }) {
  const mark = () => fitMark(props.fit);
  return (
    <button
      type="button"
      class={`fit-mark ${mark().tone}`}
      aria-haspopup="dialog"
      aria-label={`${mark().text}: how ${props.model.name} fits`}
      title={props.fit.reason ?? undefined}
      tabIndex={props.tabIndex}
      onClick={() => props.onOpen()}
    >
      <Icon name={mark().icon} />
      <span>{mark().text}</span>
    </button>
  );
}

/** Why a model fits, or not, and what it needs. */
export function FitDialog(props: { model: Model; fit: Fit; onClose: () => void }) {
  const mark = () => fitMark(props.fit);
  return (
    <Dialog
      title={props.model.name}
      onClose={props.onClose}
      actions={
        <Button kind="primary" onClick={props.onClose}>
          Close
        </Button>
      }
    >
      <p class={`fit-verdict ${mark().tone}`}>
        <Icon name={mark().icon} />
        {mark().text}
      </p>
      <Show when={props.fit.reason}>{(reason) => <p class="fit-reason">{reason()}</p>}</Show>
      <dl class="fit-needs">
        <dt>Context</dt>
        <dd>
          {count(props.fit.ctx)} tokens
          <Show when={props.fit.ctx !== props.model.ctx}>
            <span class="muted"> of the {count(props.model.ctx)} in models.toml</span>
          </Show>
        </dd>
        <Show when={props.fit.vram_bytes || props.fit.vram_free_bytes}>
          <dt>GPU memory</dt>
          <dd>
            {bytes(props.fit.vram_bytes)}
            <Show when={props.fit.vram_free_bytes !== undefined}>
              <span class="muted"> of {bytes(props.fit.vram_free_bytes)} that can be had</span>
            </Show>
          </dd>
        </Show>
        <dt>Memory of the machine</dt>
        <dd>
          {bytes(props.fit.host_bytes)}
          <Show when={props.fit.host_free_bytes}>
            {(free) => <span class="muted"> of {bytes(free())} that can be had</span>}
          </Show>
        </dd>
        <Show when={props.fit.in_the_way?.length}>
          <dt>In the way</dt>
          <dd>
            <ul>
              <For each={props.fit.in_the_way}>
                {(holder) => (
                  <li>
                    {holder.name} <span class="muted">has {bytes(holder.bytes)}</span>
                  </li>
                )}
              </For>
            </ul>
          </dd>
        </Show>
      </dl>
    </Dialog>
  );
}
