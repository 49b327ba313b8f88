import type { Preallocation } from '../../../image/image.js';
import { bigEndianBytes } from '../../../lib/bits.js';
import { ImgfsError } from '../../../lib/errors.js';
import type { HeaderChanges } from '../encode.js';
import { l1Claim } from '../header.js';
import { entryOffset, hasOffset, L1_ENTRY_BYTES, ownedHigh } from '../read/layout.js';
import { readSnapshots } from '../snapshots.js';
import { cut } from './cut.js';
import { preallocate } from './preallocate.js';
import { putSnapshotTable, withSize } from './snapshot-table.js';
import { countEntries, readL2 } from './table-walk.js';
import type { Transaction } from './transaction.js';
import type { Volume } from './volume.js';

/** An L1 table for a disk of `size` bytes; the size itself stays. Throws `limit`, `unsupported`. */
export function growL1(volume: Volume, size: number): void {
  assertResizable(volume, size);
  const { tableSpan, l1Entries } = volume.live.now;
  const entries = Math.ceil(size / tableSpan);
  if (entries <= l1Entries) return;
  volume.change((change) => {
    const words = new Uint32Array(entries * 2);
    words.set(volume.l1.words);
    return change.putL1(words);
  });
}

/**
 * Stores the size. A smaller disk gives back what lay behind its end in the same step, a larger one gets places for
 * what it gains where that is asked for.
 */
export function setSize(volume: Volume, size: number, preallocation: Preallocation): void {
  assertResizable(volume, size);
  const { now } = volume.live;
  const dataBytes = now.external ? volume.data.size() : 0;
  try {
    volume.change((change) => {
      // A snapshot that does not say its size has the disk's, which is about to change.
      const snapshots = readSnapshots(volume.storage, now, volume.limits);
      const table = snapshots.some(({ sizeStored }) => !sizeStored)
        ? putSnapshotTable(volume, change, snapshots.map(withSize))
        : {};
      if (size < now.size) return { ...table, ...shrink(volume, change, size), size };
      return { ...table, ...preallocate(volume, change, { from: now.size, to: size }, preallocation), size };
    });
  } catch (error) {
    if (now.external && volume.health.sound) cut(volume.data, dataBytes);
    throw error;
  }
}

function assertResizable(volume: Volume, size: number): void {
  const { storage, limits } = volume;
  const { version, snapshotCount, clusterSize, tableSpan } = volume.live.now;
  if (version === 2 && snapshotCount > 0) {
    throw new ImgfsError('unsupported', `${storage.name}: a version 2 image with snapshots cannot be resized`, {
      hint: 'its snapshots have no size of their own',
    });
  }
  if (size > limits.virtualSize) {
    throw new ImgfsError('limit', `${storage.name}: a disk of ${size} bytes, the limit is ${limits.virtualSize}`);
  }
  const { maxBytes } = l1Claim(0, 0, clusterSize, limits);
  if (Math.ceil(size / tableSpan) * L1_ENTRY_BYTES > maxBytes) {
    throw new ImgfsError('limit', `${storage.name}: a disk of ${size} bytes needs too large a table`, {
      hint: 'an image with larger clusters can have that size',
    });
  }
}

/** Drops every entry for clusters wholly behind the new end. */
function shrink(volume: Volume, change: Transaction, size: number): HeaderChanges {
  const { tableSpan, clusterSize } = volume.live.now;
  const words = volume.l1.words.slice();
  const keptClusters = Math.ceil(size / clusterSize);
  const perTable = tableSpan / clusterSize;
  for (let index = Math.floor(keptClusters / perTable); index < words.length / 2; index++) {
    const [high, low] = [words[index * 2]!, words[index * 2 + 1]!];
    if (!hasOffset(high, low)) continue;
    const at = entryOffset(high, low);
    const kept = Math.max(0, Math.min(perTable, keptClusters - index * perTable));
    const table = readL2(volume, at);
    countEntries(volume, change, table.subarray(kept * volume.l2.words), -1);
    change.add(at / clusterSize, -1);
    words[index * 2] = 0;
    words[index * 2 + 1] = 0;
    if (kept === 0) continue;
    table.fill(0, kept * volume.l2.words);
    const place = change.put(bigEndianBytes(table));
    words[index * 2] = ownedHigh(place);
    words[index * 2 + 1] = place % 2 ** 32;
  }
  return change.putL1(words);
}
