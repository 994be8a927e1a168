import { Show } from "solid-js";
import { energy } from "../lib/format";
import { coverage } from "../lib/usage";
import type { UsageRow } from "../types";

/** The energy of requests, and below it of how many of them where not all were measured. */
export function Energy(props: { of: Pick<UsageRow, "requests" | "energy_joules" | "energy_requests"> }) {
  return (
    <>
      {energy(props.of.energy_joules)}
      <Show when={coverage(props.of)}>{(words) => <span class="partly muted weak">{words()}</span>}</Show>
    </>
  );
}
