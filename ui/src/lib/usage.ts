import type { UsageBy, UsageRow } from "../types";
import { csv } from "./csv";
import { count } from "./format";

const JOULES_PER_KWH = 3.6e6;

/** How far back. */
export type Span = "7d" | "30d" | "90d" | "all";

export const SPANS: { value: Span; name: string }[] = [
  { value: "7d", name: "7 days" },
  { value: "30d", name: "30 days" },
  { value: "90d", name: "90 days" },
  { value: "all", name: "All" },
];

/** What a row is called. */
export function rowName(row: UsageRow, by: UsageBy): string {
  if (row.label) return row.label;
  if (row.key) return row.key;
  return by === "session" ? "without a session" : "without a model";
}

/** All rows together. */
export function sum(rows: UsageRow[]): Omit<UsageRow, "key" | "label"> {
  const total: Omit<UsageRow, "key" | "label"> = {
    requests: 0,
    tokens_in: 0,
    tokens_out: 0,
    tokens_cached: 0,
    seconds: 0,
    energy_requests: 0,
  };
  for (const row of rows) {
    total.requests += row.requests;
    total.tokens_in += row.tokens_in;
    total.tokens_out += row.tokens_out;
    total.tokens_cached += row.tokens_cached;
    total.seconds += row.seconds;
    if (row.energy_joules != null) total.energy_joules = (total.energy_joules ?? 0) + row.energy_joules;
    if (row.energy_requests == null) total.energy_requests = null;
    else if (total.energy_requests != null) total.energy_requests += row.energy_requests;
  }
  return total;
}

/** Of how many requests a sum of energy is, in words, where it is not that of all of them; nothing where there is no such sum. */
export function coverage(sum: Pick<UsageRow, "requests" | "energy_joules" | "energy_requests">): string | null {
  if (sum.energy_joules == null || sum.energy_requests === sum.requests) return null;
  if (sum.energy_requests == null) return "of how many requests is unknown";
  return `${count(sum.energy_requests)} of ${count(sum.requests)} requests measured`;
}

/** The days that a span goes back to, today included; all that there is where it is not limited. */
const DAYS: Record<Span, number | null> = { "7d": 8, "30d": 31, "90d": 91, all: null };

/**
 * Days as columns for a chart, up to `today`, those without a request as zero. They are drawn over each other, the
 * largest first: all tokens, those that were read, those of them out of the cache.
 */
export function dayColumns(rows: UsageRow[], span: Span, today: string): [number[], number[], number[], number[]] {
  const days = new Map(rows.map((row) => [row.key, row]));
  const first = rows.find((row) => /^\d{4}-\d{2}-\d{2}$/.test(row.key))?.key ?? today;
  const least = dayAfter(today, -((DAYS[span] ?? 8) - 1));
  const columns: [number[], number[], number[], number[]] = [[], [], [], []];
  for (let day = [first, least].sort()[0]; day <= today; day = dayAfter(day, 1)) {
    const row = days.get(day);
    const read = row?.tokens_in ?? 0;
    columns[0].push(new Date(`${day}T12:00:00`).getTime() / 1000);
    columns[1].push(read + (row?.tokens_out ?? 0));
    columns[2].push(read);
    columns[3].push(row?.tokens_cached ?? 0);
  }
  return columns;
}

/** A row as a bar: its tokens out of the cache, the others that were read, those that were written. */
export interface UsageBar {
  key: string;
  name: string;
  cached: number;
  read: number;
  written: number;
  /** All three. */
  total: number;
}

/** How many bars fit before they are too many to be read. */
const BARS = 12;

/** Rows as bars, the largest first; those beyond `most` are one together, at the end. */
export function usageBars(rows: UsageRow[], name: (row: UsageRow) => string, most = BARS): UsageBar[] {
  const bars = rows.map((row) => {
    // What comes out of the cache is a part of what is read.
    const cached = Math.min(row.tokens_cached, row.tokens_in);
    const read = row.tokens_in - cached;
    const written = row.tokens_out;
    return { key: row.key, name: name(row), cached, read, written, total: cached + read + written };
  });
  bars.sort((a, b) => b.total - a.total);
  if (bars.length <= most) return bars;
  const others = bars.splice(most - 1);
  const all = { key: "", name: `${others.length} others`, cached: 0, read: 0, written: 0, total: 0 };
  for (const bar of others) for (const part of ["cached", "read", "written", "total"] as const) all[part] += bar[part];
  return [...bars, all];
}

/** A day as the API writes it, in the browser's time zone. */
export function dayOf(date: Date): string {
  const pad = (value: number) => value.toString().padStart(2, "0");
  return `${date.getFullYear()}-${pad(date.getMonth() + 1)}-${pad(date.getDate())}`;
}

/** What so much energy costs, by the price in the settings, as in `0.32 EUR`; nothing where either is unknown. */
export function cost(joules: number | null | undefined, price: string | null | undefined): number | null {
  const perKwh = Number.parseFloat(price ?? "");
  return joules == null || !Number.isFinite(perKwh) ? null : (joules / JOULES_PER_KWH) * perKwh;
}

/** The currency of that price. */
export function currency(price: string | null | undefined): string {
  return (price ?? "").trim().split(/\s+/).slice(1).join(" ");
}

/** The table as CSV. */
export function usageCsv(rows: UsageRow[], by: UsageBy): string {
  const header = [
    by,
    ...(by === "session" ? ["label"] : []),
    "requests",
    "tokens_in",
    "tokens_cached",
    "tokens_out",
    "seconds",
    "energy_joules",
    "energy_requests",
  ];
  return csv(
    header,
    rows.map((row) => [
      row.key,
      ...(by === "session" ? [row.label ?? ""] : []),
      row.requests,
      row.tokens_in,
      row.tokens_cached,
      row.tokens_out,
      Math.round(row.seconds * 1000) / 1000,
      row.energy_joules ?? "",
      row.energy_requests ?? "",
    ]),
  );
}

function dayAfter(day: string, by: number): string {
  const date = new Date(`${day}T12:00:00Z`);
  date.setUTCDate(date.getUTCDate() + by);
  return date.toISOString().slice(0, 10);
}
