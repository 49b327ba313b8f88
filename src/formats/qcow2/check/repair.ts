import { roundUp } from '../../../lib/bits.js';
import { readTable, type Storage } from '../../../storage/storage.js';
import { putU64, refcountTablePatch, soundPatch } from '../encode.js';
import type { Header } from '../header.js';
import {
  encodeRefcount,
  entryOffset,
  hasOffset,
  isCopied,
  L1_ENTRY_BYTES,
  REFCOUNT_TABLE_ENTRY_BYTES,
  withCopied,
} from '../layout.js';
import type { Census } from './census.js';
import type { Inspection } from './check.js';
import type { Counts } from './counts.js';

/**
 * Mends what an inspection found: `leaks` lowers refcounts that are too high, `all` also raises those that are too low,
 * builds the refcount structure anew where it is unusable, sets the copied flags right and takes back the marks
 * "dirty" and "corrupt" where nothing is left that they could mean. Entries that point nowhere stay as they are: what
 * they should have said nobody knows; and where more than leaks was wrong, what looks lost is not given back to the host,
 * for it may be what such an entry meant. The caller reads the header again afterwards.
 *
 * Order: refcounts first, durable before any flag says that a cluster may be overwritten; the marks last.
 */
export function mend(storage: Storage, header: Header, found: Inspection, repair: 'leaks' | 'all'): void {
  const { census } = found;
  const wrong = repair === 'all' ? [...found.leaked, ...found.missing] : found.leaked;
  const perBlock = (header.clusterSize * 8) / header.refcountBits;
  const unmet = wrong.some((cluster) => !census.blocks.has(Math.floor(cluster / perBlock)));
  if (repair === 'all' && (census.badBlocks || unmet)) rebuild(storage, header, census, perBlock);
  else setCounts(storage, header, census, wrong, perBlock);
  storage.flush();
  const { corruptions } = census.findings;
  // Where nothing else was wrong, giving back leaks makes the image whole, and its flags must say so.
  const whole = corruptions === 0 && found.missing.length === 0;
  if (whole) giveBack(storage, header, found);
  if (repair !== 'all' && !whole) return;
  setFlags(storage, header, census);
  storage.flush();
  if (header.version < 3 || corruptions > census.badBlockFindings) return;
  const patch = soundPatch(header.stored);
  storage.write(patch.bytes, patch.at);
  storage.flush();
}

/** Clusters that nothing refers to need no space on the host. Their refcounts say so durably. */
function giveBack(storage: Storage, { clusterSize }: Header, { leaked, census }: Inspection): void {
  const free = leaked.filter((cluster) => census.counts.at(cluster) === 0);
  for (let i = 0; i < free.length; ) {
    const first = i;
    while (free[i] === free[first]! + i - first) i++;
    storage.discard(free[first]! * clusterSize, (i - first) * clusterSize);
  }
}

function setCounts(
  storage: Storage,
  header: Header,
  census: Census,
  clusters: readonly number[],
  perBlock: number,
): void {
  const block = Buffer.alloc(header.clusterSize);
  const byBlock = new Map<number, number[]>();
  for (const cluster of clusters) {
    const index = Math.floor(cluster / perBlock);
    const members = byBlock.get(index);
    if (members === undefined) byBlock.set(index, [cluster]);
    else members.push(cluster);
  }
  for (const [index, members] of byBlock) {
    const at = census.blocks.get(index);
    if (at === undefined) continue;
    readTable(storage, block, at, 'refcount block');
    for (const cluster of members) {
      const value = census.counts.at(cluster);
      if (value < 2 ** header.refcountBits)
        encodeRefcount(block, cluster - index * perBlock, header.refcountBits, value);
    }
    storage.write(block, at);
  }
}

/** A new refcount structure behind the end of the file; one header write switches to it, and the old one is free. */
function rebuild(storage: Storage, header: Header, census: Census, perBlock: number): void {
  const { clusterSize, refcountBits } = header;
  const { counts } = census;
  for (const cluster of census.refcountClusters) counts.decrement(cluster);
  const first = roundUp(storage.size(), clusterSize) / clusterSize;
  const { indices, tableClusters } = planStructure(counts, first, perBlock, clusterSize);
  const total = indices.length + tableClusters;
  for (let n = 0; n < total; n++) counts.increment(first + n);
  storage.resize((first + total) * clusterSize);
  const table = Buffer.alloc(tableClusters * clusterSize);
  census.blocks.clear();
  indices.forEach((index, n) => {
    const block = Buffer.alloc(clusterSize);
    for (let i = 0; i < perBlock; i++) {
      const value = counts.at(index * perBlock + i);
      if (value > 0 && value < 2 ** refcountBits) encodeRefcount(block, i, refcountBits, value);
    }
    const at = (first + tableClusters + n) * clusterSize;
    storage.write(block, at);
    putU64(table, index * REFCOUNT_TABLE_ENTRY_BYTES, at);
    census.blocks.set(index, at);
  });
  storage.write(table, first * clusterSize);
  storage.flush();
  const patch = refcountTablePatch(first * clusterSize, tableClusters);
  storage.write(patch.bytes, patch.at);
}

/** Which blocks are needed, those for the structure itself included, and how many clusters their table takes. */
function planStructure(
  counts: Counts,
  first: number,
  perBlock: number,
  clusterSize: number,
): { readonly indices: readonly number[]; readonly tableClusters: number } {
  const needed = new Set<number>();
  for (const cluster of counts.referred()) needed.add(Math.floor(cluster / perBlock));
  let tableClusters = 1;
  for (;;) {
    const before = needed.size + tableClusters;
    for (let n = 0; n < before; n++) needed.add(Math.floor((first + n) / perBlock));
    tableClusters = Math.ceil(((Math.max(...needed) + 1) * REFCOUNT_TABLE_ENTRY_BYTES) / clusterSize);
    if (needed.size + tableClusters === before) break;
  }
  return { indices: [...needed].sort((a, b) => a - b), tableClusters };
}

/** The copied flags of the active tables, from the counts that are now stored. */
function setFlags(storage: Storage, header: Header, census: Census): void {
  const { clusterSize } = header;
  const once = (at: number): boolean => census.counts.at(Math.floor(at / clusterSize)) === 1;
  const l1 = Buffer.alloc(header.l1Entries * L1_ENTRY_BYTES);
  readTable(storage, l1, header.l1At, 'L1 table');
  const step = L1_ENTRY_BYTES * (header.extended ? 2 : 1);
  for (let i = 0; i < l1.length; i += L1_ENTRY_BYTES) {
    const table = placeOf(l1, i, header, storage);
    if (table === undefined) continue;
    const l2 = Buffer.alloc(clusterSize);
    readTable(storage, l2, table, 'L2 table');
    let changed = false;
    for (let n = 0; n < l2.length; n += step) {
      if (!census.isPlaced(l2.readUInt32BE(n), l2.readUInt32BE(n + 4))) continue;
      const at = placeOf(l2, n, header, storage);
      if (at !== undefined && !header.external && setFlag(l2, n, once(at))) changed = true;
    }
    if (changed) storage.write(l2, table);
    if (setFlag(l1, i, once(table))) storage.write(l1.subarray(i, i + L1_ENTRY_BYTES), header.l1At + i);
  }
}

/** Where an entry points, if it points to a whole cluster inside the file. */
function placeOf(table: Buffer, n: number, header: Header, storage: Storage): number | undefined {
  const [high, low] = [table.readUInt32BE(n), table.readUInt32BE(n + 4)];
  const at = entryOffset(high, low);
  const usable = hasOffset(high, low) && at % header.clusterSize === 0 && at + header.clusterSize <= storage.size();
  return usable ? at : undefined;
}

/** Returns whether the entry changed. */
function setFlag(table: Buffer, n: number, copied: boolean): boolean {
  const high = table.readUInt32BE(n);
  if (isCopied(high) === copied) return false;
  table.writeUInt32BE(withCopied(high, copied), n);
  return true;
}
