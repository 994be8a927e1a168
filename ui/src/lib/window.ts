/** Which rows of a long list are drawn. */
export interface Range {
  from: number;
  to: number;
}

/** The rows that can be seen and some beyond them, of rows of one height. */
export function visible(top: number, height: number, row: number, rows: number, beyond: number): Range {
  const from = Math.max(0, Math.floor(top / row) - beyond);
  const to = Math.min(rows, Math.ceil((top + height) / row) + beyond);
  return { from: Math.min(from, Math.max(0, to)), to: Math.max(to, 0) };
}

/** Where to scroll so that a row can be seen; the same place where it can be already. */
export function reveal(top: number, height: number, row: number, index: number): number {
  const start = index * row;
  if (start < top) return start;
  if (start + row > top + height) return start + row - height;
  return top;
}
