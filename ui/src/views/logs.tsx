import { createEffect, createMemo, createSignal, Index, on, onCleanup, Show } from "solid-js";
import { clock, count, plural } from "../lib/format";
import { Button, CopyButton, Search, Segments } from "../parts/controls";
import { Icon } from "../parts/icons";
import { createRows } from "../parts/rows";
import { NextTry } from "../parts/states";
import { View } from "../parts/view";
import { useCorral } from "../state/corral";
import { createLog, type Log } from "../state/log";
import type { LogLevel } from "../types";

const LEVELS: { value: LogLevel; name: string }[] = [
  { value: "debug", name: "All" },
  { value: "info", name: "Info" },
  { value: "warn", name: "Warnings" },
  { value: "error", name: "Errors" },
];

let kept: Log | undefined;

export function LogsView() {
  const corral = useCorral();
  kept ??= createLog();
  const log = kept;
  const stream = log.read(corral.platform);
  onCleanup(() => stream.stop());

  const [follow, setFollow] = createSignal(true);
  const length = createMemo(() => {
    log.version();
    return log.book.length;
  });
  const rows = createRows({ count: length, rem: 1.25, beyond: 12 });
  let dropped = log.book.dropped;
  let box!: HTMLDivElement;

  const toEnd = () => rows.scrollTo(box.scrollHeight);
  createEffect(
    on(log.version, () => {
      const gone = log.book.dropped - dropped;
      dropped = log.book.dropped;
      if (follow()) toEnd();
      // What is read stays where it is when the oldest lines go.
      else if (gone > 0) rows.scrollTo(box.scrollTop - gone * rows.row());
    }),
  );

  const atEnd = () => box.scrollTop + box.clientHeight >= box.scrollHeight - rows.row() * 1.5;
  const onWheel = (event: WheelEvent) => event.deltaY < 0 && setFollow(false);
  let last = 0;
  const onScroll = () => {
    if (atEnd()) setFollow(true);
    // Whoever drags the bar upwards wants to read there: new lines alone never move it up.
    else if (box.scrollTop < last) setFollow(false);
    last = box.scrollTop;
  };
  const setPaused = (pause: boolean) => {
    log.setPaused(pause);
    if (!pause && follow()) toEnd();
  };
  const onKey = (event: KeyboardEvent) => {
    if (["ArrowUp", "PageUp", "Home"].includes(event.key)) setFollow(false);
  };
  const onSpace = (event: KeyboardEvent) => {
    const target = event.target as HTMLElement;
    if (event.key !== " " || event.ctrlKey || target.closest("input, button, a, select, dialog, label")) return;
    event.preventDefault();
    setPaused(!log.paused());
  };
  addEventListener("keydown", onSpace);
  onCleanup(() => removeEventListener("keydown", onSpace));

  const lines = createMemo(() => {
    log.version();
    const { from, to } = rows.range();
    return Array.from({ length: Math.max(0, to - from) }, (_, index) => log.book.line(from + index));
  });
  /** Over all views it is said already. */
  const isBanner = () => corral.connection().state === "lost";
  const note = () => {
    log.version();
    const all = plural(log.book.total, "line");
    const held = log.paused() ? `, ${count(log.book.held)} more since the pause` : "";
    return (length() === log.book.total ? all : `${count(length())} of ${all}`) + held;
  };

  return (
    <View
      title="Logs"
      fill
      note={note()}
      actions={
        <>
          <Segments
            label="Least level"
            choices={LEVELS}
            value={log.filter().level}
            onChoose={(level) => log.setFilter({ ...log.filter(), level })}
          />
          <Search
            label="Filter lines"
            value={log.filter().text}
            onInput={(text) => log.setFilter({ ...log.filter(), text })}
          />
          <Button
            icon={log.paused() ? "play" : "pause"}
            pressed={log.paused()}
            onClick={() => setPaused(!log.paused())}
          >
            Pause
          </Button>
          <Button
            icon="down"
            pressed={follow()}
            onClick={() => {
              setFollow(!follow());
              if (follow()) toEnd();
            }}
          >
            Follow
          </Button>
          <CopyButton label="Copy all shown lines" text={() => log.book.text()}>
            Copy
          </CopyButton>
        </>
      }
    >
      <Show when={!isBanner() && log.broken()}>
        {(broken) => (
          <div class="strip bad" role="alert">
            <Icon name="unplugged" class="bad" />
            <p class="grow">
              <strong>No new lines come: {broken().failure.message}.</strong>{" "}
              <Show when={broken().failure.hint}>
                {(hint) => <>Lines that come meanwhile are read later, as far as Corral still has them; {hint()}.</>}
              </Show>
            </p>
            <NextTry at={broken().retryAt} />
            <Button onClick={() => stream.retry()}>Try now</Button>
          </div>
        )}
      </Show>
      <div
        class="log"
        role="log"
        aria-live="off"
        aria-label="Lines of the log"
        tabIndex={0}
        ref={(element) => {
          box = element;
          rows.attach(element);
        }}
        onWheel={onWheel}
        onScroll={onScroll}
        onKeyDown={onKey}
      >
        <Show
          when={length()}
          fallback={
            <p class="none">
              <Show
                when={log.book.total}
                fallback={
                  log.open()
                    ? "No line has come yet: a model that loads says a lot."
                    : log.failure()
                      ? "No line could be read."
                      : "Reading the log"
                }
              >
                No line matches the filter.
              </Show>
            </p>
          }
        >
          <div class="sizer" style={{ height: `${rows.total()}px` }}>
            <div class="lines" style={{ transform: `translateY(${rows.range().from * rows.row()}px)` }}>
              <Index each={lines()}>
                {(line) => (
                  <div class={`line ${line()?.level ?? ""}`}>
                    <span class="time">{line() ? clock(line()!.ts) : ""}</span>
                    <span class="level">{line()?.level === "gap" ? "" : (line()?.level ?? "")}</span>
                    <span class="of" title={line()?.model}>
                      {line()?.model ?? ""}
                    </span>
                    <span class="msg">{line()?.msg ?? ""}</span>
                  </div>
                )}
              </Index>
            </div>
          </div>
        </Show>
      </div>
    </View>
  );
}
