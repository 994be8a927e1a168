import { expect, onTestFinished, test } from "vitest";
import { Lines } from "../../src/lib/lines";
import { GAP, LogBook, matches } from "../../src/lib/logs";
import { Ring } from "../../src/lib/ring";
import { createLog, STEP } from "../../src/state/log";
import type { LogRecord } from "../../src/types";

const START = Date.parse("2026-11-21T12:00:00Z");
const record = (number: number, more: Partial<LogRecord> = {}): LogRecord => ({
  ts: new Date(START + number).toISOString(),
  level: "info",
  model: "tiny",
  msg: `line ${number}`,
  ...more,
});
const shown = (book: LogBook) => Array.from({ length: book.length }, (_, place) => book.line(place)?.msg);

test("a ring keeps the last, and their numbers", () => {
  const ring = new Ring<string>(3);
  for (const item of "abcde") ring.push(item);
  expect([...ring]).toEqual(["c", "d", "e"]);
  expect([ring.first, ring.end, ring.length, ring.at(1), ring.at(2), ring.last()]).toEqual([
    2,
    5,
    3,
    undefined,
    "c",
    "e",
  ]);
  ring.clear();
  expect([ring.length, ring.at(4), ring.last()]).toEqual([0, undefined, undefined]);
  ring.push("f");
  expect([...ring]).toEqual(["f"]);
  expect(ring.at(5)).toBe("f");
});

test("a filter takes a least level and a text of any case", () => {
  const warn = record(1, { level: "warn", msg: "Out of Memory" });
  expect(matches({ level: "debug", text: "" }, warn)).toBe(true);
  expect(matches({ level: "error", text: "" }, warn)).toBe(false);
  expect(matches({ level: "warn", text: "of memory" }, warn)).toBe(true);
  expect(matches({ level: "info", text: "TINY" }, warn)).toBe(true);
  expect(matches({ level: "info", text: "absent" }, warn)).toBe(false);
});

test("the filter holds for lines that are there, that come, and that go", () => {
  const book = new LogBook(6);
  for (let number = 0; number < 4; number += 1) book.push(record(number, { level: number % 2 ? "error" : "info" }));
  book.setFilter({ level: "error", text: "" });
  expect(shown(book)).toEqual(["line 1", "line 3"]);
  for (let number = 4; number < 8; number += 1) book.push(record(number, { level: number % 2 ? "error" : "info" }));
  expect(shown(book)).toEqual(["line 3", "line 5", "line 7"]);
  expect(book.dropped).toBe(1);
  expect(book.total).toBe(6);
  book.setFilter({ level: "debug", text: "line 6" });
  expect(shown(book)).toEqual(["line 6"]);
  expect(book.dropped).toBe(0);
});

test("a pause holds lines back and loses none", () => {
  const book = new LogBook(10);
  book.push(record(1));
  book.pause();
  book.push(record(2));
  book.push(record(3));
  expect([shown(book), book.held]).toEqual([["line 1"], 2]);
  book.resume();
  expect([shown(book), book.held]).toEqual([["line 1", "line 2", "line 3"], 0]);
});

test("a stream that is opened again repeats nothing", () => {
  const book = new LogBook(10);
  const twice = record(3, { msg: "another of the same moment" });
  for (const line of [record(1), record(2), record(3)]) book.push(line);
  book.reopened();
  for (const line of [record(1), record(2), record(3), twice, record(4), record(2, { msg: "a clock set back" })])
    book.push(line);
  expect(shown(book)).toEqual([
    "line 1",
    "line 2",
    "line 3",
    "another of the same moment",
    "line 4",
    "a clock set back",
  ]);
});

test("100,000 lines come in and are filtered, and no more are kept", () => {
  const book = new LogBook();
  for (let number = 0; number < 150_000; number += 1) book.push(record(number));
  expect(book.length).toBe(100_000);
  book.setFilter({ level: "info", text: "line 149999" });
  expect(shown(book)).toEqual(["line 149999"]);
});

test("a line comes back as it went in", () => {
  const book = new LogBook(2);
  const odd = record(7, { level: "error", model: "another", msg: "" });
  for (const one of [record(1), record(2), odd]) book.push(one);
  expect(book.line(1)).toEqual({ ts: START + 7, level: "error", model: "another", msg: "" });
  expect([book.line(0)?.msg, book.line(2)]).toEqual(["line 2", undefined]);
  book.clear();
  expect([book.length, book.line(0)]).toEqual([0, undefined]);
  book.push(record(9, { level: "a new one" as never }));
  expect(book.line(0)).toMatchObject({ msg: "line 9", level: "info" });
});

test("what is copied is what is shown", () => {
  const book = new LogBook(10);
  book.push(record(1, { level: "warn", msg: "hm" }));
  book.push(record(2));
  book.setFilter({ level: "warn", text: "" });
  expect(book.text()).toMatch(/^\d\d:\d\d:\d\d\.001 warn {2}tiny {2}hm$/);
});

test("however many lines come, they are drawn once", () => {
  const draws: (() => void)[] = [];
  const log = createLog(100, (then) => draws.push(then));
  let send: (line: LogRecord) => void = () => undefined;
  const stop = () => undefined;
  const platform = {
    logs: (_tail: number, onRecord: typeof send) => {
      send = onRecord;
      return { stop, retry: stop };
    },
  };
  log.read(platform as never);
  for (let number = 0; number < 50; number += 1) send(record(number));
  expect([draws.length, log.version()]).toEqual([1, 0]);
  draws[0]();
  expect([log.version(), log.book.length]).toEqual([1, 50]);
  send(record(51));
  expect(draws.length).toBe(2);
});

/** A log and what its stream is fed with; what it would do later is done when the test says so. */
function fed(capacity: number) {
  const queue: (() => void)[] = [];
  const draws: (() => void)[] = [];
  const log = createLog(
    capacity,
    (then) => draws.push(then),
    (then) => queue.push(then),
  );
  let send: (line: LogRecord) => void = () => undefined;
  let say: (state: { open: true }) => void = () => undefined;
  const platform = {
    logs: (_: number, onRecord: typeof send, onState: typeof say) => {
      send = onRecord;
      say = onState;
      return { stop: () => undefined, retry: () => undefined };
    },
  };
  return {
    log,
    queue,
    read: () => log.read(platform as never),
    send: (line: LogRecord) => send(line),
    open: () => say({ open: true }),
  };
}

test("where nothing proves that no line is missing, that is a line of its own", () => {
  const { log, read, send, open } = fed(100);
  const range = (from: number, to: number) => {
    for (let number = from; number <= to; number += 1) send(record(number));
  };
  read();
  open();
  // The very first lines follow nothing.
  range(3, 5);
  expect(shown(log.book)).toEqual(["line 3", "line 4", "line 5"]);
  // The view was left and is come back to: what is read anew reaches back into what is here.
  read();
  open();
  range(4, 6);
  expect(shown(log.book)).toEqual(["line 3", "line 4", "line 5", "line 6"]);
  // The same after a break, of the last line only.
  open();
  range(6, 7);
  expect(shown(log.book).at(-1)).toBe("line 7");
  expect(shown(log.book)).not.toContain(GAP);
  // Meanwhile more came than Corral keeps.
  read();
  open();
  range(9, 10);
  expect(shown(log.book).slice(-4)).toEqual(["line 7", GAP, "line 9", "line 10"]);
  // A stream that is opened and brings nothing proves nothing, and says it once.
  open();
  open();
  range(12, 13);
  expect(shown(log.book).slice(-3)).toEqual([GAP, "line 12", "line 13"]);
  // Whatever is looked for may be among what is missing.
  log.book.setFilter({ level: "error", text: "line 12" });
  expect(shown(log.book)).toEqual([GAP, GAP]);
  expect(log.book.text()).toBe(`${GAP}\n${GAP}`);
});

test("during a pause, too, what is missing is told where it is missing", () => {
  const { log, read, send, open } = fed(100);
  read();
  open();
  send(record(1));
  log.setPaused(true);
  send(record(2));
  open();
  send(record(5));
  expect(shown(log.book)).toEqual(["line 1"]);
  log.setPaused(false);
  expect(shown(log.book)).toEqual(["line 1", "line 2", GAP, "line 5"]);
});

test("a key in the filter looks at no line; the lines are looked at in steps, once for all keys", () => {
  const lines = 3 * STEP + 1;
  const { log, queue, read, send, open } = fed(2 * lines);
  read();
  open();
  for (let number = 0; number < lines; number += 1) send(record(number));
  let looked = 0;
  const at = Lines.prototype.at;
  Lines.prototype.at = function (number) {
    looked += 1;
    return at.call(this, number);
  };
  onTestFinished(() => {
    Lines.prototype.at = at;
  });
  for (const text of ["2", "29", "299", "2999"]) log.setFilter({ level: "debug", text });
  expect([looked, queue.length, log.filter().text]).toEqual([0, 1, "2999"]);
  queue.shift()!();
  expect(looked).toBe(STEP);
  // Until all are looked at the filter before holds, for lines that come, too.
  send(record(lines, { msg: "another" }));
  expect([log.book.length, queue.length]).toEqual([lines + 1, 1]);
  // A key in the middle begins anew, and starts no second walk.
  log.setFilter({ level: "debug", text: "line 2999" });
  expect(queue.length).toBe(1);
  for (const most of [2 * STEP, 3 * STEP, 4 * STEP, 4 * STEP + 2]) {
    queue.shift()!();
    expect(looked).toBe(most);
  }
  expect(queue.length).toBe(0);
  expect(shown(log.book)).toEqual(
    [2999, ...Array.from({ length: 10 }, (_, digit) => 29990 + digit)].map((n) => `line ${n}`),
  );
});

test("lines that go and come while a filter is walked through are neither shown twice nor left out", () => {
  const book = new LogBook(4);
  for (let number = 0; number < 4; number += 1) book.push(record(number));
  book.seek({ level: "info", text: "line" });
  expect(book.step(2)).toBe(false);
  for (let number = 4; number < 7; number += 1) book.push(record(number));
  expect(book.step(2)).toBe(false);
  expect(book.step(2)).toBe(true);
  expect(shown(book)).toEqual(["line 3", "line 4", "line 5", "line 6"]);
  book.seek({ level: "info", text: "line 6" });
  expect(book.text()).toContain("line 6");
  expect(shown(book)).toEqual(["line 6"]);
});
