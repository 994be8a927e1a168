import { expect, test } from "vitest";
import {
  ago,
  baseName,
  bytes,
  clock,
  context,
  count,
  duration,
  NONE,
  percent,
  plural,
  rate,
  tokens,
} from "../../src/lib/format";

test("bytes have three digits and a binary unit", () => {
  expect([0, 1023, 1024, 322_560, 5.42 * 2 ** 30, 48 * 2 ** 30, 900 * 2 ** 40].map(bytes)).toEqual([
    "0 B",
    "1023 B",
    "1.00 KiB",
    "315 KiB",
    "5.42 GiB",
    "48.0 GiB",
    "900 TiB",
  ]);
});

test("what is not there is a dash, whatever it would have been", () => {
  for (const show of [bytes, count, tokens, rate, percent, duration]) {
    expect(show(null)).toBe(NONE);
    expect(show(undefined)).toBe(NONE);
    expect(show(Number.NaN)).toBe(NONE);
  }
});

test("tokens stay short", () => {
  expect([0, 999, 1000, 65_536, 99_949, 99_950, 999_499, 999_500, 1_234_567, 2.5e9].map(tokens)).toEqual([
    "0",
    "999",
    "1k",
    "65.5k",
    "99.9k",
    "100k",
    "999k",
    "1M",
    "1.2M",
    "2.5G",
  ]);
});

test("a context of a power of two is called as people call it", () => {
  expect([512, 4096, 65_536, 131_072, 100_000].map(context)).toEqual(["512", "4k", "64k", "128k", "100k"]);
});

test("durations have their two largest units", () => {
  expect([0, 412, 9_940, 9_960, 59_400, 61_000, 3_600_000, 7_500_000, 90_000_000].map(duration)).toEqual([
    "0.0 s",
    "0.4 s",
    "9.9 s",
    "10 s",
    "59 s",
    "1 min 1 s",
    "1 h",
    "2 h 5 min",
    "1 d 1 h",
  ]);
});

test("times ago are rounded, and a clock that is ahead is no future", () => {
  const now = Date.parse("2026-11-21T12:00:00Z");
  const back = (ms: number) => ago(now - ms, now);
  expect([-5000, 10_000, 60_000, 3_540_000, 7_200_000, 172_800_000].map(back)).toEqual([
    "just now",
    "just now",
    "1 min ago",
    "59 min ago",
    "2 h ago",
    "2 d ago",
  ]);
});

test("the time of day has milliseconds", () => {
  expect(clock("2026-11-21T12:03:07.1204Z")).toMatch(/^\d\d:03:07\.120$/);
  expect(clock("nonsense")).toBe("nonsense");
});

test("numbers, shares, rates and names", () => {
  expect(count(131_072)).toBe("131,072");
  expect(percent(0.874)).toBe("87 %");
  expect([42.123, 812.4].map(rate)).toEqual(["42.1", "812"]);
  expect([plural(1, "model"), plural(0, "model"), plural(2, "entry", "entries")]).toEqual([
    "1 model",
    "0 models",
    "2 entries",
  ]);
  expect([baseName("/home/me/project/"), baseName("x"), baseName("/")]).toEqual(["project", "x", "/"]);
});
