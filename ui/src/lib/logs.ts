import type { LogLevel, LogRecord } from "../types";
import { clock } from "./format";
import { type LineLevel, Lines, type LogLine, rank } from "./lines";
import { Ring } from "./ring";

/** How many lines are kept; `llama-server` at its most talkative fills this in some minutes. */
export const CAPACITY = 100_000;

/** Which lines are shown. */
export interface LogFilter {
  level: LogLevel;
  text: string;
}

/** What stands where nothing proves that a stream went on where the one before it had ended. */
export const GAP = "… lines in between were not read, if there were any";

type Taken = Omit<LogRecord, "level"> & { level: LineLevel };

/**
 * Whether a line is shown; the text is looked for in message and model, whatever its case. What says that lines are
 * missing is always shown: they might be those that are looked for.
 */
export function matches(filter: LogFilter, line: Pick<LogLine, "level" | "model" | "msg">): boolean {
  if (line.level === "gap") return true;
  if (rank(line.level) < rank(filter.level)) return false;
  if (!filter.text) return true;
  const text = filter.text.toLowerCase();
  return line.msg.toLowerCase().includes(text) || line.model.toLowerCase().includes(text);
}

/** A line as it is copied. */
export function asText(line: LogLine): string {
  if (line.level === "gap") return line.msg;
  return `${clock(line.ts)} ${line.level.padEnd(5)} ${line.model}  ${line.msg}`;
}

/** The lines that a filter shows, as far as they were looked at. */
interface Walk {
  filter: LogFilter;
  shown: Ring<number>;
  /** The number of the line that is next. */
  next: number;
}

/** The log as it is kept: all lines, those that the filter shows, and those that came during a pause. */
export class LogBook {
  private lines: Lines;
  private shown: Ring<number>;
  private waiting: Ring<Taken> | null = null;
  private filter: LogFilter = { level: "debug", text: "" };
  private walk: Walk | null = null;
  private newest = Number.NEGATIVE_INFINITY;
  private atNewest = new Set<string>();
  private again = false;
  private joined = true;

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

  /** What follows comes from a new stream, which begins with lines that are here already, where it reaches back so far. */
  reopened(): void {
    this.again = true;
    this.joined = this.newest === Number.NEGATIVE_INFINITY;
  }

  push(record: LogRecord): void {
    const repeated = this.isRepeated(record);
    // Only a line that is known already shows that none is missing before it.
    if (!this.joined && !repeated) this.add({ ...record, level: "gap", model: "", msg: GAP });
    this.joined = true;
    if (!repeated) this.add(record);
  }

  /** Sets the filter, and looks at all lines at once. */
  setFilter(filter: LogFilter): void {
    this.seek(filter);
    this.step(Number.POSITIVE_INFINITY);
  }

  /** Begins to look for the lines of a filter; the one before holds until `step` has come to the end. */
  seek(filter: LogFilter): void {
    this.walk = { filter, shown: new Ring(this.capacity), next: this.lines.first };
  }

  /** Looks at so many lines more; whether there is nothing left to look at. */
  step(lines: number): boolean {
    const walk = this.walk;
    if (!walk) return true;
    walk.next = Math.max(walk.next, this.lines.first);
    const end = Math.min(this.lines.end, walk.next + lines);
    for (; walk.next < end; walk.next += 1) {
      if (matches(walk.filter, this.lines.at(walk.next)!)) walk.shown.push(walk.next);
    }
    if (walk.next < this.lines.end) return false;
    this.walk = null;
    this.filter = walk.filter;
    this.shown = walk.shown;
    this.head = this.start = this.shown.first;
    return true;
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
    this.walk?.shown.clear();
    this.waiting?.clear();
    this.head = this.start = this.shown.first;
  }

  /** All shown lines as text, by the filter that was set last. */
  text(): string {
    this.step(Number.POSITIVE_INFINITY);
    const lines: string[] = [];
    for (let place = 0; place < this.length; place += 1) lines.push(asText(this.line(place)!));
    return lines.join("\n");
  }

  private head = 0;
  private start = 0;

  private add(record: Taken): void {
    if (this.waiting) this.waiting.push(record);
    else this.take(record);
  }

  private take(record: Taken): void {
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
