import { pbkdf2Sync } from 'node:crypto';

const FIRST_TRY = 16_384;
/** A measurement shorter than this says nothing. */
const LEAST_MILLISECONDS = 20;
const LEAST_ITERATIONS = 1000;
/** What a header of eight such slots could still be opened with. */
const MOST_ITERATIONS = 4_000_000;

/**
 * How many iterations of PBKDF2 for a key of that length take `milliseconds` on this machine. `now` is a clock in
 * milliseconds of the processor's time: a busy machine must not make weak keys.
 */
export function iterationsFor(hash: string, keyBytes: number, milliseconds: number, now: () => number): number {
  const salt = Buffer.alloc(32);
  for (let count = FIRST_TRY; ; count *= 4) {
    const before = now();
    pbkdf2Sync('passphrase', salt, count, keyBytes, hash);
    const took = now() - before;
    if (took < LEAST_MILLISECONDS && count < MOST_ITERATIONS) continue;
    const wanted = Math.floor((count * milliseconds) / Math.max(took, 1));
    return Math.min(Math.max(wanted, LEAST_ITERATIONS), MOST_ITERATIONS);
  }
}
