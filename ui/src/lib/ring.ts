/** The last `capacity` items, each with a number that never changes: the count of those that came before it. */
export class Ring<T> {
  readonly capacity: number;
  private items: T[] = [];
  private base = 0;
  private next = 0;

  constructor(capacity: number) {
    this.capacity = capacity;
  }

  /** The number of the oldest item that is kept. */
  get first(): number {
    return Math.max(this.base, this.next - this.capacity);
  }

  /** One more than the number of the newest item. */
  get end(): number {
    return this.next;
  }

  get length(): number {
    return this.next - this.first;
  }

  push(item: T): void {
    this.items[(this.next - this.base) % this.capacity] = item;
    this.next += 1;
  }

  /** The item of that number, where it is kept. */
  at(number: number): T | undefined {
    if (number < this.first || number >= this.next) return undefined;
    return this.items[(number - this.base) % this.capacity];
  }

  last(): T | undefined {
    return this.at(this.next - 1);
  }

  /** Forgets the items, not the numbering. */
  clear(): void {
    this.items = [];
    this.base = this.next;
  }

  *[Symbol.iterator](): Generator<T> {
    for (let number = this.first; number < this.next; number += 1) yield this.at(number) as T;
  }
}
