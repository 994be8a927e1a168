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
    if (last !== undefined && time - last > this.gap) this.add(last + this.gap, []);
    this.add(time, values);
    this.forget(time - this.span);
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
