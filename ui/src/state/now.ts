import { createEffect, createSignal, onCleanup } from "solid-js";

/** The time in milliseconds, read again every so often, as long as somebody wants it. */
export function createNow(every: number, wanted: () => boolean = () => true): () => number {
  const [now, setNow] = createSignal(Date.now());
  createEffect(() => {
    if (!wanted()) return;
    setNow(Date.now());
    const timer = setInterval(() => setNow(Date.now()), every);
    onCleanup(() => clearInterval(timer));
  });
  return now;
}
