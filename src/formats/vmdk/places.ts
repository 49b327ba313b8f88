/** Ranges of a file, merged and in order: where a sparse extent keeps its tables. */
export class Places {
  private readonly starts: number[] = [];
  private readonly ends: number[] = [];

  add(at: number, length: number): void {
    if (length <= 0) return;
    const { starts, ends } = this;
    const first = firstFrom(ends, at);
    let last = first;
    let [start, end] = [at, at + length];
    while (last < starts.length && starts[last]! <= end) {
      start = Math.min(start, starts[last]!);
      end = Math.max(end, ends[last]!);
      last++;
    }
    starts.splice(first, last - first, start);
    ends.splice(first, last - first, end);
  }

  /** Whether any byte of the range is in one of them. */
  touches(at: number, length: number): boolean {
    const n = firstFrom(this.ends, at + 1);
    return n < this.starts.length && this.starts[n]! < at + length;
  }
}

/** The first of the ascending numbers that is at least `value`. */
function firstFrom(numbers: readonly number[], value: number): number {
  let low = 0;
  for (let high = numbers.length; low < high; ) {
    const middle = Math.floor((low + high) / 2);
    if (numbers[middle]! < value) low = middle + 1;
    else high = middle;
  }
  return low;
}
