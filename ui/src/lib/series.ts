/** Readings over time for charts: columns of the same length, as uPlot takes them. */
export class Series {
  private times: number[] = [];
  private columns: (number | null)[][];

  /** `span` is how far back it reaches, `gap` how long nothing may come before the line is broken; both in seconds. */
  constructor(
    width: number,
    private span: number,
    private gap: number,
  ) {
    this.columns = Array.from({ length: width }, () => []);
  }

  /** Takes one reading, at a time in seconds. A reading that is not newer than the last is dropped. */
  push(time: number, values: (number | null | undefined)[]): void {
    const last = this.times.at(-1);
    if (last !== undefined && time <= last) return;
    const isBroken = this.columns.every((column) => column.at(-1) == null);
    if (last !== undefined && time - last > this.gap && !isBroken) this.add(last + this.gap, []);
    this.add(time, values);
    this.forget(time - this.span);
  }

  /** Takes readings that were kept elsewhere: what is here already stays before them and after them. */
  merge(times: number[], columns: (number | null)[][]): void {
    if (!times.length) return;
    const [mine, values] = [this.times, this.columns];
    this.times = [];
    this.columns = values.map(() => []);
    const row = (from: (number | null)[][], at: number) => from.map((column) => column[at]);
    const again = (keep: (time: number) => boolean) => {
      for (const [at, time] of mine.entries()) if (keep(time)) this.push(time, row(values, at));
    };
    again((time) => time < times[0]);
    for (const [at, time] of times.entries()) this.push(time, row(columns, at));
    again((time) => time > times[times.length - 1]);
  }

  /** The columns, times first. */
  data(): [number[], ...(number | null)[][]] {
    return [this.times, ...this.columns];
  }

  get length(): number {
    return this.times.length;
  }

  private add(time: number, values: (number | null | undefined)[]): void {
    this.times.push(time);
    for (const [index, column] of this.columns.entries()) column.push(values[index] ?? null);
  }

  private forget(before: number): void {
    let old = 0;
    while (old < this.times.length && this.times[old] < before) old += 1;
    // Dropped some at a time: moving all for each reading would be for nothing.
    if (old < 16) return;
    this.times.splice(0, old);
    for (const column of this.columns) column.splice(0, old);
  }
}
