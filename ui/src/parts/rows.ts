import { createMemo, createSignal, onCleanup, onMount } from "solid-js";
import { type Range, reveal, visible } from "../lib/window";

/** Draws of a long list only what can be seen. Rows are `rem` high, so that they grow with the text. */
export function createRows(options: { count: () => number; rem: number; beyond: number }) {
  const [top, setTop] = createSignal(0);
  const [height, setHeight] = createSignal(0);
  const [row, setRow] = createSignal(options.rem * 16);
  let box: HTMLElement | undefined;

  const drawn = createMemo(() => visible(top(), height(), row(), options.count(), options.beyond));
  const range = createMemo<Range>(drawn, { from: 0, to: 0 }, { equals: (a, b) => a.from === b.from && a.to === b.to });

  /** To be given to the element that scrolls. */
  const attach = (element: HTMLElement) => {
    box = element;
    onMount(() => {
      const measure = () => {
        setRow(options.rem * Number.parseFloat(getComputedStyle(document.documentElement).fontSize));
        setHeight(element.clientHeight);
        setTop(element.scrollTop);
      };
      measure();
      const resized = new ResizeObserver(measure);
      resized.observe(element);
      const scrolled = () => setTop(element.scrollTop);
      element.addEventListener("scroll", scrolled, { passive: true });
      onCleanup(() => {
        resized.disconnect();
        element.removeEventListener("scroll", scrolled);
      });
    });
  };

  return {
    attach,
    range,
    row,
    top,
    height,
    /** The height of all rows, in pixels. */
    total: () => options.count() * row(),
    /** Scrolls so that a row can be seen. */
    show(index: number) {
      if (!box) return;
      const to = reveal(box.scrollTop, box.clientHeight, row(), index);
      if (to !== box.scrollTop) {
        box.scrollTop = to;
        setTop(box.scrollTop);
      }
    },
    scrollTo(to: number) {
      if (!box) return;
      box.scrollTop = to;
      setTop(box.scrollTop);
    },
  };
}
