import type { Storage } from '../storage/storage.js';
import type { Health } from './health.js';

/** Bytes of a table in use that are to be replaced. Whole sectors, so that half a write never cuts an entry. */
export interface Rewrite {
  readonly at: number;
  readonly bytes: Uint8Array;
  /** What lies there now, or what tells it where making it is work: only a failure asks. */
  readonly old: Uint8Array | (() => Uint8Array);
}

/**
 * Replaces part of a table. When the host fails in the middle, the old bytes are put back, so that what the caller
 * keeps in memory stays true; where even that fails, it is done before anything else is changed.
 */
export function rewrite(storage: Storage, { at, bytes, old: known }: Rewrite, health: Health): void {
  health.assertSound();
  try {
    storage.write(bytes, at);
  } catch (error) {
    const old = typeof known === 'function' ? known() : known;
    try {
      storage.write(old, at);
    } catch {
      // What counts is what the file holds now, which is asked next.
    }
    if (!holds(storage, at, old)) health.owe({ storage, at, bytes: Uint8Array.from(old) }, error);
    throw error;
  }
}

function holds(storage: Storage, at: number, expected: Uint8Array): boolean {
  const found = new Uint8Array(expected.length);
  try {
    const got = storage.read(found, at);
    found.fill(0, got);
  } catch {
    return false;
  }
  return Buffer.compare(found, expected) === 0;
}
