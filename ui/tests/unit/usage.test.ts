import { expect, test } from "vitest";
import { coverage, sum, usageBars } from "../../src/lib/usage";
import type { UsageRow } from "../../src/types";

const row = (key: string, read: number, cached: number, written: number): UsageRow => ({
  key,
  requests: 1,
  tokens_in: read,
  tokens_cached: cached,
  tokens_out: written,
  seconds: 1,
});
const name = (one: UsageRow) => one.key.toUpperCase();

test("a bar has three parts that make up all its tokens, and the largest is first", () => {
  expect(usageBars([row("a", 10, 4, 5), row("b", 100, 0, 20)], name)).toEqual([
    { key: "b", name: "B", cached: 0, read: 100, written: 20, total: 120 },
    { key: "a", name: "A", cached: 4, read: 6, written: 5, total: 15 },
  ]);
  // More out of the cache than was read can only be a mistake: no part is less than nothing.
  expect(usageBars([row("odd", 10, 12, 0)], name)[0]).toMatchObject({ cached: 10, read: 0, total: 10 });
  expect(usageBars([], name)).toEqual([]);
});

test("what is too much to be read is one bar at the end, and nothing of it is lost", () => {
  const rows = Array.from({ length: 40 }, (_, index) => row(`${index}`, 100 + index, 10, 1));
  const bars = usageBars(rows, name, 12);
  expect([bars.length, bars[0].name, bars[10].name, bars[11].name]).toEqual([12, "39", "29", "29 others"]);
  const sum = (of: (bar: (typeof bars)[number]) => number) => bars.reduce((all, bar) => all + of(bar), 0);
  expect(sum((bar) => bar.total)).toBe(rows.reduce((all, one) => all + one.tokens_in + one.tokens_out, 0));
  expect([sum((bar) => bar.cached), sum((bar) => bar.written)]).toEqual([400, 40]);
  expect(usageBars(rows.slice(0, 12), name, 12).length).toBe(12);
});

test("a sum of energy says of how many requests it is where it is not of all", () => {
  const of = (requests: number, measured: number | null | undefined, joules?: number): UsageRow => ({
    ...row("a", 1, 0, 1),
    requests,
    energy_joules: joules,
    energy_requests: measured,
  });
  expect(coverage(of(4000, 1200, 9))).toBe("1,200 of 4,000 requests measured");
  expect(coverage(of(40, undefined, 9))).toBe("of how many requests is unknown");
  expect([coverage(of(40, 40, 9)), coverage(of(40, 0)), coverage(of(40, null))]).toEqual([null, null, null]);
  expect(sum([of(40, 12, 5), of(2, 2, 4), of(3, 0)])).toMatchObject({
    requests: 45,
    energy_requests: 14,
    energy_joules: 9,
  });
  expect(sum([of(40, 12, 5), of(2, null, 4), of(3, 0)]).energy_requests).toBeNull();
  expect(sum([of(3, 0)]).energy_joules).toBeUndefined();
});
