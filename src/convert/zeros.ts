/** Finding zeros in what was read. */

/** Bytes that are all zeros, or in which every unit holds something else. */
export interface Run {
  readonly zero: boolean;
  readonly from: number;
  readonly to: number;
}

let zeros = Buffer.alloc(0);

/**
 * Divides `bytes`, which lie at `at` of a disk, into runs: units of the disk that are all zeros, and others. A run is
 * as long as it can be; where the bytes begin or end inside a unit, its part of them counts as one.
 */
export function* zeroRuns(bytes: Buffer, at: number, unit: number): Generator<Run> {
  if (zeros.length < unit) zeros = Buffer.alloc(unit);
  let from = 0;
  let kind: boolean | undefined;
  for (let here = 0; here < bytes.length; ) {
    const next = Math.min(bytes.length, here + unit - ((at + here) % unit));
    const zero = isZero(bytes, here, next);
    if (kind !== undefined && zero !== kind) {
      yield { zero: kind, from, to: here };
      from = here;
    }
    kind = zero;
    here = next;
  }
  if (kind !== undefined) yield { zero: kind, from, to: bytes.length };
}

/** Most units that hold anything show that in their first byte or in the middle: only the others are compared. */
function isZero(bytes: Buffer, from: number, to: number): boolean {
  if (bytes[from] !== 0 || bytes[Math.floor((from + to) / 2)] !== 0) return false;
  return bytes.compare(zeros, 0, to - from, from, to) === 0;
}
