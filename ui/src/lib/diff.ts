/** Numbers (from 0) of the lines of each text that the other does not have in the same order. */
export function changedLines(left: string, right: string): [Set<number>, Set<number>] {
  const a = left.split("\n");
  const b = right.split("\n");
  let head = 0;
  while (head < a.length && head < b.length && a[head] === b[head]) head += 1;
  let tail = 0;
  while (tail < a.length - head && tail < b.length - head && a.at(-1 - tail) === b.at(-1 - tail)) tail += 1;
  const rows = a.length - head - tail;
  const columns = b.length - head - tail;
  const only: [Set<number>, Set<number>] = [new Set(), new Set()];
  // The longest common part takes a table of all pairs; what is too much for it counts as changed.
  if (rows * columns > 4_000_000) {
    for (let row = 0; row < rows; row += 1) only[0].add(head + row);
    for (let column = 0; column < columns; column += 1) only[1].add(head + column);
    return only;
  }
  const width = columns + 1;
  const common = new Uint32Array((rows + 1) * width);
  for (let row = rows - 1; row >= 0; row -= 1) {
    for (let column = columns - 1; column >= 0; column -= 1) {
      common[row * width + column] =
        a[head + row] === b[head + column]
          ? common[(row + 1) * width + column + 1] + 1
          : Math.max(common[(row + 1) * width + column], common[row * width + column + 1]);
    }
  }
  let row = 0;
  let column = 0;
  while (row < rows || column < columns) {
    if (row < rows && column < columns && a[head + row] === b[head + column]) {
      row += 1;
      column += 1;
    } else if (
      column >= columns ||
      (row < rows && common[(row + 1) * width + column] >= common[row * width + column + 1])
    ) {
      only[0].add(head + row);
      row += 1;
    } else {
      only[1].add(head + column);
      column += 1;
    }
  }
  return only;
}
