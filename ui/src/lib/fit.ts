import type { IconName } from "../parts/icons";
import type { Fit } from "../types";
import { context, plural } from "./format";

/** A verdict as it is shown: a colour, a shape and words, each of which says it alone. */
export interface Mark {
  tone: "good" | "warn" | "bad";
  icon: IconName;
  text: string;
}

/** How well a model fits, in a few words. */
export function fitMark(fit: Fit): Mark {
  if (fit.verdict === "fits") return { tone: "good", icon: "ok", text: "Fits" };
  if (fit.verdict === "no") return { tone: "bad", icon: "no", text: "Too big" };
  const words = [];
  if (fit.ctx < (fit.ctx_configured ?? 0)) words.push(`${context(fit.ctx)} context`);
  if (fit.layers_on_cpu) words.push(`${plural(fit.layers_on_cpu, "layer")} on CPU`);
  return { tone: "warn", icon: "half", text: words.join(", ") || "Reduced" };
}

/** What a load is refused with where the model does not fit; it can be tried all the same. */
export function isTooBig(code: string | undefined): boolean {
  return code === "insufficient_memory";
}
