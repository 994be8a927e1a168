import { createSignal } from "solid-js";
import type { Failure } from "../lib/failure";
import { CAPACITY, LogBook, type LogFilter } from "../lib/logs";
import type { Platform, Stream } from "../platform";

/** How many of the lines before are asked for: all that Corral keeps. */
const TAIL = 5000;

/** As often as anybody can read, in milliseconds: each drawing lays all lines in sight out anew. */
const DRAWN = 100;

/** How many lines are looked at for a filter before keys and frames have their turn: a few milliseconds. */
export const STEP = 10_000;

/** No lines come: why, and when that is tried again, in milliseconds. */
export interface Broken {
  failure: Failure;
  retryAt: number | null;
}

/** Draws with the next frame, at most so often. */
function seldom(every: number): (then: () => void) => void {
  let last = Number.NEGATIVE_INFINITY;
  return (then) => {
    const draw = () =>
      requestAnimationFrame(() => {
        last = performance.now();
        then();
      });
    const wait = last + every - performance.now();
    if (wait > 0) setTimeout(draw, wait);
    else draw();
  };
}

/** Goes on when the page has nothing more urgent to do. */
const soon = (then: () => void) => void setTimeout(then, 0);

/** The log, kept between visits of its view, read only while somebody looks. */
export function createLog(capacity = CAPACITY, draw = seldom(DRAWN), later: (then: () => void) => void = soon) {
  const book = new LogBook(capacity);
  const [version, setVersion] = createSignal(0);
  const [filter, setFilterSignal] = createSignal<LogFilter>({ level: "debug", text: "" });
  const [paused, setPaused] = createSignal(false);
  const [open, setOpen] = createSignal(false);
  const [failure, setFailure] = createSignal<Failure | null>(null);
  const [broken, setBroken] = createSignal<Broken | null>(null);
  let asked = false;

  /** However many lines come, they are drawn together. */
  const changed = () => {
    if (asked) return;
    asked = true;
    draw(() => {
      asked = false;
      setVersion((now) => now + 1);
    });
  };

  let walking = false;
  const walk = () => {
    walking = !book.step(STEP);
    if (walking) later(walk);
    else changed();
  };

  return {
    book,
    version,
    filter,
    paused,
    open,
    failure,
    /** Set when the stream could not be opened again at the first try. */
    broken,
    setFilter(next: LogFilter) {
      setFilterSignal(next);
      book.seek(next);
      // A key that comes before the walk has ended makes it begin anew.
      if (!walking) later(walk);
      walking = true;
    },
    setPaused(pause: boolean) {
      if (pause) book.pause();
      else book.resume();
      setPaused(pause);
      changed();
    },
    clear() {
      book.clear();
      changed();
    },
    /** Reads until the answer is told to stop. */
    read(platform: Platform): Stream {
      let failures = 0;
      return platform.logs(
        TAIL,
        (record) => {
          book.push(record);
          changed();
        },
        (state) => {
          if (state.open) book.reopened();
          failures = state.open ? 0 : failures + 1;
          setOpen(state.open);
          setFailure(state.open ? null : state.failure);
          // A stream that ends is opened again half a second later: nobody needs to hear of that.
          setBroken(state.open || failures < 2 ? null : { failure: state.failure, retryAt: state.retryAt });
          changed();
        },
      );
    },
  };
}

export type Log = ReturnType<typeof createLog>;
