import type { LogLevel, LogRecord } from "../types";

/** The level of a line, or that it stands for lines that were not read. */
export type LineLevel = LogLevel | "gap";

/** A line as it is kept. */
export interface LogLine {
  /** Milliseconds since 1970. */
  ts: number;
  level: LineLevel;
  model: string;
  msg: string;
}

/** The least first; what is missing is never too little to be told. */
const LEVELS: LineLevel[] = ["debug", "info", "warn", "error", "gap"];

/** How grave a level is; one that is not known yet counts as the usual one. */
export function rank(level: LineLevel): number {
  const rank = LEVELS.indexOf(level);
  return rank < 0 ? LEVELS.indexOf("info") : rank;
}

/**
 * The last `capacity` lines, each with a number that never changes: the count of those that came before it. They are kept
 * in columns: as many objects would be several times as large, and work for the collector.
 */
export class Lines {
  private times: Float64Array;
  private levels: Uint8Array;
  private models: Uint16Array;
  private texts: string[] = [];
  private names: string[] = [];
  private places = new Map<string, number>();
  private base = 0;
  private next = 0;

  constructor(readonly capacity: number) {
    this.times = new Float64Array(capacity);
    this.levels = new Uint8Array(capacity);
    this.models = new Uint16Array(capacity);
  }

  /** The number of the oldest line that is kept. */
  get first(): number {
    return Math.max(this.base, this.next - this.capacity);
  }

  /** One more than the number of the newest line. */
  get end(): number {
    return this.next;
  }

  get length(): number {
    return this.next - this.first;
  }

  push(record: Omit<LogRecord, "level"> & { level: LineLevel }): void {
    const place = this.next % this.capacity;
    this.times[place] = Date.parse(record.ts);
    this.levels[place] = rank(record.level);
    this.models[place] = this.nameOf(record.model);
    this.texts[place] = record.msg;
    this.next += 1;
  }

  /** The line of that number, where it is kept. */
  at(number: number): LogLine | undefined {
    if (number < this.first || number >= this.next) return undefined;
    const place = number % this.capacity;
    return {
      ts: this.times[place],
      level: LEVELS[this.levels[place]],
      model: this.names[this.models[place]],
      msg: this.texts[place],
    };
  }

  /** Forgets the lines, not the numbering. */
  clear(): void {
    this.texts = [];
    this.base = this.next;
  }

  /** There are as many as the catalog has models, so that their numbers fit. */
  private nameOf(model: string): number {
    let place = this.places.get(model);
    if (place === undefined) {
      place = this.names.length % 0x10000;
      this.names[place] = model;
      this.places.set(model, place);
    }
    return place;
  }
}
