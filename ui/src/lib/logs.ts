import type { LogLevel, LogRecord } from "../types";
import { clock } from "./format";
import { Lines, type LogLine, rank } from "./lines";
import { Ring } from "./ring";

/** How many lines are kept; `llama-server` at its most talkative fills this in some minutes. */
export const CAPACITY = 100_000;

/** Which lines are shown. */
export interface LogFilter {
  level: LogLevel;
  text: string;
}

/** Whether a line is shown; the text is looked for in message and model, whatever its case. */
export function matches(filter: LogFilter, line: Pick<LogLine, "level" | "model" | "msg">): boolean {
  if (rank(line.level) < rank(filter.level)) return false;
  if (!filter.text) return true;
  const text = filter.text.toLowerCase();
  return line.msg.toLowerCase().includes(text) || line.model.toLowerCase().includes(text);
}

/** A line as it is copied. */
export function asText(line: LogLine): string {
  return `${clock(line.ts)} ${line.level.padEnd(5)} ${line.model}  ${line.msg}`;
}

/** The log as it is kept: all lines, those that the filter shows, and those that came during a pause. */
export class LogBook {
  private lines: Lines;
  private shown: Ring<number>;
  private waiting: Ring<LogRecord> | null = null;
  private filter: LogFilter = { level: "debug", text: "" };
  private newest = Number.NEGATIVE_INFINITY;
  private atNewest = new Set<string>();
  private again = false;

  constructor(private capacity = CAPACITY) {
    this.lines = new Lines(capacity);
    this.shown = new Ring(capacity);
  }

  /** How many lines the filter shows. */
  get length(): number {
    this.forget();
    return this.shown.end - this.head;
  }

  /** How many lines there are. */
  get total(): number {
    return this.lines.length;
  }

  /** How many lines came during the pause. */
  get held(): number {
    return this.waiting?.length ?? 0;
  }

  /** How many shown lines were dropped since the filter was set: by so much have all others moved up. */
  get dropped(): number {
    this.forget();
    return this.head - this.start;
  }

  /** The shown line at that place, 0 for the oldest. */
  line(place: number): LogLine | undefined {
    this.forget();
    const number = this.shown.at(this.head + place);
    return number === undefined ? undefined : this.lines.at(number);
  }

  /** What follows comes from a new stream, which begins with lines that are here already. */
  reopened(): void {
    this.again = true;
  }

  push(record: LogRecord): void {
    if (this.isRepeated(record)) return;
    if (this.waiting) this.waiting.push(record);
    else this.take(record);
  }

  setFilter(filter: LogFilter): void {
    this.filter = filter;
    this.shown.clear();
    for (let number = this.lines.first; number < this.lines.end; number += 1) {
      if (matches(filter, this.lines.at(number)!)) this.shown.push(number);
    }
    this.head = this.start = this.shown.first;
  }

  pause(): void {
    this.waiting ??= new Ring(this.capacity);
  }

  resume(): void {
    const waiting = this.waiting;
    this.waiting = null;
    if (waiting) for (const record of waiting) this.take(record);
  }

  clear(): void {
    this.lines.clear();
    this.shown.clear();
    this.waiting?.clear();
    this.head = this.start = this.shown.first;
  }

  /** All shown lines as text. */
  text(): string {
    const lines: string[] = [];
    for (let place = 0; place < this.length; place += 1) lines.push(asText(this.line(place)!));
    return lines.join("\n");
  }

  private head = 0;
  private start = 0;

  private take(record: LogRecord): void {
    if (matches(this.filter, record)) this.shown.push(this.lines.end);
    this.lines.push(record);
  }

  /** Moves the head past those whose lines are not kept any more. */
  private forget(): void {
    this.head = Math.max(this.head, this.shown.first);
    while (this.head < this.shown.end && this.shown.at(this.head)! < this.lines.first) this.head += 1;
  }

  private isRepeated(record: LogRecord): boolean {
    const at = Date.parse(record.ts);
    if (this.again && at < this.newest) return true;
    if (this.again && at === this.newest && this.atNewest.has(record.msg)) return true;
    if (at > this.newest) {
      this.newest = at;
      this.atNewest.clear();
      this.again = false;
    }
    if (at === this.newest && this.atNewest.size < 1000) this.atNewest.add(record.msg);
    return false;
  }
}
