import { referencesOf } from './entries.js';
import { entryFor } from './place.js';
import type { Volume } from './volume.js';

/**
 * Stores the cluster at guest offset `at` compressed, in place of what is there. Nothing but the whole stream is worth
 * anything, and host clusters that hold several count a reference each: the entry always waits until both are durable.
 */
export function writePacked(volume: Volume, packed: Uint8Array, at: number): void {
  const { storage, reserve, guard, pending, frees, live } = volume;
  const { clusterSize } = live.now;
  if (packed.length === 0 || packed.length >= clusterSize) {
    throw new RangeError(`${packed.length} bytes are no cluster of ${clusterSize}, packed`);
  }
  const { slice, first } = entryFor(volume, at);
  const replaced = referencesOf(volume, slice, first);
  const host = reserve.takePacked(packed.length);
  try {
    guard.check(storage, host, packed.length);
    storage.write(packed, host);
  } catch (error) {
    giveUp(volume, host, packed.length);
    throw error;
  }
  pending.add({ slice: slice.at, first, count: 1, host, zeros: 0, allocated: 0, packed: packed.length }, true);
  if (replaced !== undefined) frees.hold([replaced]);
}

function giveUp({ reserve, live }: Volume, host: number, bytes: number): void {
  const { clusterSize } = live.now;
  const first = Math.floor(host / clusterSize);
  try {
    reserve.release({ first, count: Math.floor((host + bytes - 1) / clusterSize) - first + 1 });
  } catch {
    // The space leaks; the failure that led here is the one to report.
  }
}
