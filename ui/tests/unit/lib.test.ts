import { expect, test } from "vitest";
import { csv } from "../../src/lib/csv";
import { changedLines } from "../../src/lib/diff";
import { asFailure, Failure, refusal } from "../../src/lib/failure";
import { energy, money } from "../../src/lib/format";
import { readRoute, takeToken } from "../../src/lib/route";
import { Series } from "../../src/lib/series";
import { backoff, eventReader, lineReader, type ServerEvent } from "../../src/lib/streams";
import { readTerminal, terminalText } from "../../src/lib/terminal";
import { cost, currency, dayColumns, dayOf, rowName, sum, usageCsv } from "../../src/lib/usage";
import { reveal, visible } from "../../src/lib/window";
import type { UsageRow } from "../../src/types";

test("CSV quotes what needs it and starts no formula", () => {
  expect(
    csv(
      ["a", "b"],
      [
        ['say "hi", you', 1.5],
        ["=1+1", -2],
        ["two\nlines", 0],
      ],
    ),
  ).toBe('a,b\r\n"say ""hi"", you",1.5\r\n\'=1+1,-2\r\n"two\nlines",0\r\n');
});

test.each([1, 2, 3, 7, 1000])("events are read whole in pieces of %i", (size) => {
  const text =
    ': hello\n\nevent: snapshot\r\ndata: {"a":1}\r\n\r\nevent:notice\ndata: x\ndata:y\nid: 3\n\ndata: last\r\rdata: cut off';
  const events: ServerEvent[] = [];
  const take = eventReader((event) => events.push(event));
  for (let at = 0; at < text.length; at += size) take(text.slice(at, at + size));
  expect(events).toEqual([
    { name: "snapshot", data: '{"a":1}' },
    { name: "notice", data: "x\ny" },
    { name: "message", data: "last" },
  ]);
});

test("lines may end in any of the three ways", () => {
  const lines: string[] = [];
  const take = lineReader((line) => lines.push(line));
  for (const piece of ["a\r", "\nb\n", "", "c\rd", "\n\ne"]) take(piece);
  expect(lines).toEqual(["a", "b", "c", "d", ""]);
});

test("waits grow and have an end", () => {
  expect([0, 1, 2, 3, 4, 5, 99].map(backoff)).toEqual([500, 1000, 2000, 4000, 8000, 10_000, 10_000]);
});

test("readings go as they get old, and a gap breaks the line", () => {
  const series = new Series(2, 100, 5);
  series.push(1, [1, 10]);
  series.push(2, [2, null]);
  series.push(2, [9, 9]);
  series.push(20, [3, undefined]);
  expect(series.data()).toEqual([
    [1, 2, 7, 20],
    [1, 2, null, 3],
    [10, null, null, null],
  ]);
  for (let time = 21; time < 5000; time += 1) series.push(time, [time, time]);
  expect(series.length).toBeLessThan(120);
  expect(series.data()[0].at(-1)).toBe(4999);
});

test("of a long list only what can be seen is drawn", () => {
  expect(visible(0, 100, 20, 1000, 2)).toEqual({ from: 0, to: 7 });
  expect(visible(1000, 100, 20, 1000, 2)).toEqual({ from: 48, to: 57 });
  expect(visible(19_900, 100, 20, 1000, 2)).toEqual({ from: 993, to: 1000 });
  expect(visible(500, 100, 20, 0, 2)).toEqual({ from: 0, to: 0 });
  expect(visible(500, 100, 20, 3, 2)).toEqual({ from: 3, to: 3 });
  expect([reveal(0, 100, 20, 2), reveal(0, 100, 20, 5), reveal(100, 100, 20, 1)]).toEqual([0, 20, 20]);
});

test("a diff marks what only one side has", () => {
  const [left, right] = changedLines("a\nb\nc\nd", "a\nx\nc\nd\ne");
  expect([...left]).toEqual([1]);
  expect([...right]).toEqual([1, 4]);
  expect(changedLines("same", "same").map((set) => set.size)).toEqual([0, 0]);
  const long = Array.from({ length: 3000 }, (_, line) => `${line}`);
  const [many] = changedLines(long.join("\n"), [...long].reverse().join("\n"));
  expect(many.size).toBe(3000);
});

test("the address leads to a view, and gives its token away once", () => {
  expect(readRoute("#logs")).toEqual({ view: "logs", part: "" });
  expect(readRoute("#settings/catalog")).toEqual({ view: "settings", part: "catalog" });
  expect([readRoute("").view, readRoute("#nonsense").view]).toEqual(["models", "models"]);
  expect(takeToken("#token=abc")).toEqual({ token: "abc", hash: "" });
  expect(takeToken("#token=abc&health")).toEqual({ token: "abc", hash: "#health" });
  expect(takeToken("#live")).toEqual({ token: null, hash: "#live" });
});

test("a terminal is a name, or a command of words", () => {
  for (const setting of ["kitty", ["xterm", "-T", "{title}", "-e"], ["my term", 'a "b" \\']]) {
    expect(readTerminal(terminalText(setting))).toEqual(setting);
  }
  expect([terminalText(null), readTerminal("  ")]).toEqual(["", null]);
});

test("what went wrong keeps its code, hint and log", () => {
  const failure = refusal(422, { error: { code: "model_invalid", message: "no", hint: "do", log: ["x"] } });
  expect([failure.code, failure.message, failure.hint, failure.log, failure.status]).toEqual([
    "model_invalid",
    "no",
    "do",
    ["x"],
    422,
  ]);
  expect(refusal(502, null).message).toBe("Corral answered with 502");
  expect(asFailure(failure)).toBe(failure);
  expect(asFailure("odd")).toBeInstanceOf(Failure);
});

const row = (key: string, tokens_in: number, tokens_cached: number, tokens_out: number): UsageRow => ({
  key,
  label: null,
  requests: 1,
  tokens_in,
  tokens_cached,
  tokens_out,
  seconds: 0.1234567,
});

test("days without a request are there as nothing", () => {
  const [times, all, read, cached] = dayColumns(
    [row("2026-11-19", 10, 4, 5), row("2026-11-21", 1, 0, 1)],
    "7d",
    "2026-11-21",
  );
  expect(times.length).toBe(8);
  expect([all, read, cached]).toEqual([
    [0, 0, 0, 0, 0, 15, 0, 2],
    [0, 0, 0, 0, 0, 10, 0, 1],
    [0, 0, 0, 0, 0, 4, 0, 0],
  ]);
  expect(dayColumns([row("2026-01-01", 1, 0, 0)], "all", "2026-11-21")[0].length).toBe(325);
  expect(dayOf(new Date(2026, 10, 3))).toBe("2026-11-03");
});

test("usage adds up, has names, and goes out as CSV", () => {
  const rows = [row("a", 10, 4, 5), row("", 1, 0, 1)];
  expect(sum(rows)).toMatchObject({ requests: 2, tokens_in: 11, tokens_cached: 4, tokens_out: 6 });
  expect(rows.map((one) => rowName(one, "model"))).toEqual(["a", "without a model"]);
  expect(usageCsv(rows, "session")).toBe(
    "session,label,requests,tokens_in,tokens_cached,tokens_out,seconds,energy_joules,energy_requests\r\n" +
      "a,,1,10,4,5,0.123,,\r\n,,1,1,0,1,0.123,,\r\n",
  );
  expect(usageCsv([{ ...rows[0], energy_joules: 2.5, energy_requests: 1 }], "model")).toMatch(/,0\.123,2\.5,1\r\n$/);
});

test("energy adds up where it was measured, and has a cost where its price is known", () => {
  const rows = [{ ...row("a", 1, 0, 1), energy_joules: 5400 }, row("b", 1, 0, 1)];
  expect(sum(rows).energy_joules).toBe(5400);
  expect(sum([row("b", 1, 0, 1)]).energy_joules).toBeUndefined();
  expect([cost(7.2e6, "0.5 EUR"), currency("0.5  EUR")]).toEqual([1, "EUR"]);
  expect([cost(7.2e6, null), cost(null, "0.5 EUR"), currency("0.5")]).toEqual([null, null, ""]);
  expect([5400, 4.2e6, 9, 42, 300, null].map(energy)).toEqual(["1.5 Wh", "1.17 kWh", "9.0 J", "42 J", "300 J", "–"]);
  expect([money(12.3, "EUR"), money(0.0042, "€"), money(0, ""), money(0.000012, "EUR"), money(null, "EUR")]).toEqual([
    "12.30 EUR",
    "0.0042 €",
    "0.00",
    "0.000012 EUR",
    "–",
  ]);
});
