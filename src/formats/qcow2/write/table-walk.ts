import { bigEndianBytes, bigEndianWords } from '../../../lib/bits.js';
import { corrupt } from '../../../lib/errors.js';
import { readTable } from '../../../storage/storage.js';
import { entryOffset, hasOffset, isCompressed, ownedHigh, wellPlaced, withCopied } from '../read/layout.js';
import { referencesOfEntry } from './entries.js';
import type { Transaction } from './transaction.js';
import type { Volume } from './volume.js';

/** A whole L2 table as the file holds it; nothing may be pending. */
export function readL2(volume: Volume, at: number): Uint32Array {
  const bytes = new Uint8Array(volume.live.now.clusterSize);
  readTable(volume.storage, bytes, at, 'L2 table');
  return bigEndianWords(bytes);
}

/** The L2 tables an L1 table leads to, by index. Throws `corrupt` for an entry that leads nowhere. */
export function* tablesOf(volume: Volume, l1: Uint32Array): Generator<{ readonly index: number; readonly at: number }> {
  for (let index = 0; index * 2 < l1.length; index++) {
    const [high, low] = [l1[index * 2]!, l1[index * 2 + 1]!];
    if (!hasOffset(high, low)) continue;
    if (!wellPlaced(high, low, volume.rules.clusterMask)) {
      throw corrupt(`${volume.storage.name}: L1 entry ${index} does not point to an L2 table`);
    }
    yield { index, at: entryOffset(high, low) };
  }
}

/** Counts what entries of an L2 table refer to once more, or once less. */
export function countEntries(volume: Volume, change: Transaction, entries: Uint32Array, by: 1 | -1): void {
  const { words } = volume.l2;
  for (let i = 0; i < entries.length; i += words) {
    const run = referencesOfEntry(volume, entries[i]!, entries[i + 1]!);
    if (run === undefined) continue;
    for (let n = 0; n < run.count; n++) change.add(run.first + n, by);
  }
}

/** Counts everything an L1 table leads to, its L2 tables included: a reference counts once for each way to it. */
export function countTree(volume: Volume, change: Transaction, l1: Uint32Array, by: 1 | -1): void {
  for (const { at } of tablesOf(volume, l1)) {
    countEntries(volume, change, readL2(volume, at), by);
    change.add(at / volume.live.now.clusterSize, by);
  }
}

/**
 * Makes every COPIED flag beneath `l1`, which shall be the active table, agree with the new refcounts. A table whose
 * flags change is replaced by a copy: the old one stays right for the old state until the switch.
 */
export function settleFlags(volume: Volume, change: Transaction, l1: Uint32Array): void {
  const { clusterSize } = volume.live.now;
  for (const { index, at } of tablesOf(volume, l1)) {
    const table = readL2(volume, at);
    if (!flagEntries(volume, change, table)) {
      l1[index * 2] = withCopied(l1[index * 2]!, change.count(at / clusterSize) === 1);
      continue;
    }
    const place = change.put(bigEndianBytes(table));
    change.add(at / clusterSize, -1);
    l1[index * 2] = ownedHigh(place);
    l1[index * 2 + 1] = place % 2 ** 32;
  }
}

/** Sets and clears COPIED flags of one table by the new refcounts. Says whether any changed. */
function flagEntries(volume: Volume, change: Transaction, table: Uint32Array): boolean {
  const { clusterSize, external } = volume.live.now;
  let changed = false;
  for (let i = 0; i < table.length; i += volume.l2.words) {
    const [high, low] = [table[i]!, table[i + 1]!];
    if (external || isCompressed(high) || !hasOffset(high, low)) continue;
    const next = withCopied(high, change.count(entryOffset(high, low) / clusterSize) === 1);
    changed ||= next !== high;
    table[i] = next;
  }
  return changed;
}
