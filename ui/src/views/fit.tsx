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

/** What is needed as configured, what is taken where that is reduced, and what there is. */
function Needed(props: { bytes: number; reduced?: number | null; free?: number }) {
  return (
    <>
      {bytes(props.bytes)} needed
      <Show when={props.free !== undefined}>
        <span class="muted"> of {bytes(props.free as number)} that can be had</span>
      </Show>
      <Show when={props.reduced != null}>
        <span class="muted">, {bytes(props.reduced as number)} when reduced</span>
      </Show>
    </>
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
          <Show when={props.fit.ctx_configured > props.fit.ctx}>
            <span class="muted"> of the {count(props.fit.ctx_configured)} in models.toml</span>
          </Show>
        </dd>
        <Show when={props.fit.vram_bytes || props.fit.vram_free_bytes}>
          <dt>GPU memory</dt>
          <dd>
            <Needed
              bytes={props.fit.vram_bytes}
              reduced={props.fit.vram_reduced_bytes}
              free={props.fit.vram_free_bytes}
            />
          </dd>
        </Show>
        <dt>Memory of the machine</dt>
        <dd>
          <Needed
            bytes={props.fit.host_bytes}
            reduced={props.fit.host_reduced_bytes}
            free={props.fit.host_free_bytes || undefined}
          />
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
