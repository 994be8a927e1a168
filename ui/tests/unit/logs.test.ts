import { expect, test } from "vitest";
import { LogBook, matches } from "../../src/lib/logs";
import { Ring } from "../../src/lib/ring";
import { createLog } from "../../src/state/log";
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
