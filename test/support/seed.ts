/** The seed of every randomised test: printed, and set with IMGFS_SEED to see a failure again. */
export const SEED = Number(process.env.IMGFS_SEED ?? Math.floor(Math.random() * 2 ** 31));

console.log(`IMGFS_SEED=${SEED}`);

/** A small repeatable generator (mulberry32). `below(n)` is uniform in 0..n-1. */
export class Random {
  private state: number;

  constructor(seed = SEED) {
    this.state = seed | 0;
  }

  next(): number {
    this.state = (this.state + 0x6d2b79f5) | 0;
    let t = Math.imul(this.state ^ (this.state >>> 15), 1 | this.state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  }

  below(n: number): number {
    return Math.floor(this.next() * n);
  }

  pick<T>(from: readonly T[]): T {
    const chosen = from[this.below(from.length)];
    if (chosen === undefined) throw new RangeError('nothing to pick from');
    return chosen;
  }

  bytes(length: number): Buffer {
    const bytes = Buffer.alloc(length);
    for (let i = 0; i < length; i++) bytes[i] = this.below(256);
    return bytes;
  }

  /** A generator for case `n` of a run: one case can be repeated without those before it. */
  static forCase(seed: number, n: number): Random {
    return new Random(Math.imul(seed ^ 0x9e3779b9, 0x85ebca6b) ^ Math.imul(n + 1, 0xc2b2ae35));
  }
}
