import { corrupt } from '../../../lib/errors.js';
import { readTable } from '../../../storage/storage.js';
import { entryOffset, hasOffset, isCopied, ownedHigh, wellPlaced } from '../read/layout.js';
import type { Volume } from './volume.js';

/**
 * Host offset of the L2 table number `index`, made if there is none, copied if a snapshot shares it: a table whose
 * entries may be changed. Throws `corrupt`, and what taking a cluster throws.
 */
export function ownTable(volume: Volume, index: number): number {
  const { words } = volume.l1;
  const high = words[index * 2];
  const low = words[index * 2 + 1];
  const { name } = volume.storage;
  if (high === undefined || low === undefined) throw corrupt(`${name}: the L1 table is too small for the disk`);
  if (!hasOffset(high, low)) return enter(volume, index, undefined);
  if (!wellPlaced(high, low, volume.live.now.clusterSize - 1)) {
    throw corrupt(`${name}: L1 entry ${index} does not point to an L2 table`);
  }
  const table = entryOffset(high, low);
  return isCopied(high) ? table : enter(volume, index, table);
}

/** A new table, empty or with the entries of a shared one, durable before the L1 table points to it. */
function enter(volume: Volume, index: number, shared: number | undefined): number {
  const { storage, health, reserve } = volume;
  const { clusterSize } = volume.live.now;
  // Entries on their way into a shared table would be lost: there are none, as only owned tables are changed.
  const taken = reserve.take(1);
  const at = taken.first * clusterSize;
  try {
    // The host has zeros in a fresh cluster, durably: an empty table needs no write there.
    if (shared !== undefined || !taken.fresh) {
      const bytes = Buffer.alloc(clusterSize);
      if (shared !== undefined) readTable(storage, bytes, shared, 'L2 table');
      storage.write(bytes, at);
      health.barrier(storage);
    }
    volume.l2.forget(at, clusterSize);
    if (shared === undefined) volume.l2.begin(at, clusterSize);
    volume.l1.set(index, ownedHigh(at), at % 2 ** 32, health);
  } catch (error) {
    giveUp(volume, taken.first);
    throw error;
  }
  volume.guard.add(at);
  if (shared !== undefined) {
    volume.guard.remove(shared);
    volume.frees.wait([{ first: shared / clusterSize, count: 1 }]);
  }
  return at;
}

function giveUp(volume: Volume, cluster: number): void {
  try {
    volume.reserve.release({ first: cluster, count: 1 });
  } catch {
    // It leaks; the failure that led here is the one to report.
  }
}
