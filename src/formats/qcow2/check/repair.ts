import type { Health } from '../../../image/health.js';
import { rewrite } from '../../../image/rewrite.js';
import { roundUp } from '../../../lib/bits.js';
import { readTable, type Storage } from '../../../storage/storage.js';
import { type HeaderPatch, putU64, refcountTablePatch, soundPatch } from '../encode.js';
import type { Header } from '../header.js';
import {
  encodeRefcount,
  entryOffset,
  hasOffset,
  L1_ENTRY_BYTES,
  REFCOUNT_TABLE_ENTRY_BYTES,
  withCopied,
} from '../read/layout.js';
import { cut } from '../write/cut.js';
import { punch } from '../write/punch.js';
import { runsOf } from '../write/refcount-book.js';
import type { Inspection } from './check.js';
import type { Counts } from './counts.js';

/** The file that is mended, and whether it can still be. */
export interface Mended {
  readonly storage: Storage;
  readonly health: Health;
}

/**
 * Mends what an inspection found: `leaks` lowers refcounts that are too high, `all` also raises those that are too low,
 * builds the refcount structure anew where it is unusable, sets the copied flags right and takes back the marks
 * "dirty" and "corrupt" where nothing is left that they could mean. Entries that point nowhere stay as they are: what
 * they should have said nobody knows; and where more than leaks was wrong, what looks lost is not given back to the host,
 * for it may be what such an entry meant. The caller reads the header again afterwards.
 *
 * Order: refcounts first, durable before any flag says that a cluster may be overwritten; the marks last. Wherever it
 * ends, the next repair finds an image that is no worse. Steps come between two writes.
 */
export function* mend(mended: Mended, header: Header, found: Inspection, repair: 'leaks' | 'all'): Generator<number> {
  const { storage, health } = mended;
  const { census } = found;
  const wrong = repair === 'all' ? [...found.leaked, ...found.missing] : found.leaked;
  const perBlock = (header.clusterSize * 8) / header.refcountBits;
  const unmet = wrong.some((cluster) => !census.blocks.has(Math.floor(cluster / perBlock)));
  const anew = repair === 'all' && (census.badBlocks || unmet);
  if (anew) yield* rebuild(mended, header, found, perBlock);
  else yield* setCounts(mended, header, found, wrong, perBlock);
  health.barrier(storage);
  const { corruptions, checkErrors } = census.findings;
  // Where nothing else was wrong, giving back leaks makes the image whole, and its flags must say so.
  const whole = corruptions === 0 && found.missing.length === 0;
  if (whole) giveBack(storage, header, found);
  if (repair !== 'all' && !whole) return;
  yield* setFlags(mended, header, found);
  health.barrier(storage);
  const counted = anew || checkErrors === 0;
  const fits = wrong.every((cluster) => census.counts.at(cluster) < 2 ** header.refcountBits);
  if (header.version < 3 || corruptions > census.badBlockFindings || !counted || !fits) return;
  patch(mended, header, soundPatch(header.stored));
  health.barrier(storage);
}

/** Clusters that nothing refers to need no space on the host. Their refcounts say so durably. */
function giveBack(storage: Storage, { clusterSize }: Header, { leaked, census }: Inspection): void {
  punch(storage, runsOf(leaked.filter((cluster) => census.counts.at(cluster) === 0)), clusterSize);
}

function patch({ storage, health }: Mended, { stored }: Header, { at, bytes }: HeaderPatch): void {
  rewrite(storage, { at, bytes, old: stored.subarray(at, at + bytes.length) }, health);
}

function* setCounts(
  { storage, health }: Mended,
  header: Header,
  { census, steps }: Inspection,
  clusters: readonly number[],
  perBlock: number,
): Generator<number> {
  const byBlock = new Map<number, number[]>();
  for (const cluster of clusters) {
    const index = Math.floor(cluster / perBlock);
    const members = byBlock.get(index);
    if (members === undefined) byBlock.set(index, [cluster]);
    else members.push(cluster);
  }
  const old = Buffer.alloc(header.clusterSize);
  for (const [index, members] of byBlock) {
    const at = census.blocks.get(index);
    if (at === undefined) continue;
    readTable(storage, old, at, 'refcount block');
    const bytes = Buffer.from(old);
    for (const cluster of members) {
      const value = census.counts.at(cluster);
      if (value < 2 ** header.refcountBits)
        encodeRefcount(bytes, cluster - index * perBlock, header.refcountBits, value);
    }
    rewrite(storage, { at, bytes, old }, health);
    yield steps.part;
  }
}

/** A new refcount structure behind the end of the file; one header write switches to it, and the old one is free. */
function* rebuild(mended: Mended, header: Header, found: Inspection, perBlock: number): Generator<number> {
  const { storage, health } = mended;
  const before = storage.size();
  let switched = false;
  try {
    const table = yield* putStructure(storage, header, found, perBlock);
    health.barrier(storage);
    patch(mended, header, refcountTablePatch(table.at, table.clusters));
    switched = true;
  } finally {
    // Also where whoever takes the steps wants no more of them.
    if (!switched && health.sound) cut(storage, before);
  }
}

/** Writes blocks and table, and says where the table lies. */
function* putStructure(
  storage: Storage,
  { clusterSize, refcountBits }: Header,
  { census, steps }: Inspection,
  perBlock: number,
): Generator<number, { readonly at: number; readonly clusters: number }, void> {
  const { counts } = census;
  for (const cluster of census.refcountClusters) counts.decrement(cluster);
  const first = roundUp(storage.size(), clusterSize) / clusterSize;
  const { indices, tableClusters } = planStructure(counts, first, perBlock, clusterSize);
  const total = indices.length + tableClusters;
  for (let n = 0; n < total; n++) counts.increment(first + n);
  storage.resize((first + total) * clusterSize);
  const table = Buffer.alloc(tableClusters * clusterSize);
  census.blocks.clear();
  for (const [n, index] of indices.entries()) {
    const block = Buffer.alloc(clusterSize);
    for (let i = 0; i < perBlock; i++) {
      const value = counts.at(index * perBlock + i);
      if (value > 0 && value < 2 ** refcountBits) encodeRefcount(block, i, refcountBits, value);
    }
    const at = (first + tableClusters + n) * clusterSize;
    storage.write(block, at);
    putU64(table, index * REFCOUNT_TABLE_ENTRY_BYTES, at);
    census.blocks.set(index, at);
    yield steps.part;
  }
  storage.write(table, first * clusterSize);
  return { at: first * clusterSize, clusters: tableClusters };
}

/** Which blocks are needed, those for the structure itself included, and how many clusters their table takes. */
function planStructure(
  counts: Counts,
  first: number,
  perBlock: number,
  clusterSize: number,
): { readonly indices: readonly number[]; readonly tableClusters: number } {
  const needed = new Set<number>(counts.groups(perBlock));
  let tableClusters = 1;
  for (;;) {
    const before = needed.size + tableClusters;
    for (let n = 0; n < before; n++) needed.add(Math.floor((first + n) / perBlock));
    const highest = [...needed].reduce((a, b) => Math.max(a, b), 0);
    tableClusters = Math.ceil(((highest + 1) * REFCOUNT_TABLE_ENTRY_BYTES) / clusterSize);
    if (needed.size + tableClusters === before) break;
  }
  return { indices: [...needed].sort((a, b) => a - b), tableClusters };
}

/** The copied flags of the active tables, from the counts that are now stored. */
function* setFlags({ storage, health }: Mended, header: Header, { census, steps }: Inspection): Generator<number> {
  const { clusterSize } = header;
  const once = (at: number): boolean => census.counts.at(Math.floor(at / clusterSize)) === 1;
  const l1 = Buffer.alloc(header.l1Entries * L1_ENTRY_BYTES);
  readTable(storage, l1, header.l1At, 'L1 table');
  const step = L1_ENTRY_BYTES * (header.extended ? 2 : 1);
  const old = Buffer.alloc(clusterSize);
  for (let i = 0; i < l1.length; i += L1_ENTRY_BYTES) {
    steps.step();
    const table = placeOf(l1, i, header, storage);
    if (table === undefined) continue;
    readTable(storage, old, table, 'L2 table');
    const l2 = Buffer.from(old);
    for (let n = 0; n < l2.length; n += step) {
      if (!census.isPlaced(l2.readUInt32BE(n), l2.readUInt32BE(n + 4))) continue;
      const at = placeOf(l2, n, header, storage);
      if (at !== undefined && !header.external) setFlag(l2, n, once(at));
    }
    if (!l2.equals(old)) rewrite(storage, { at: table, bytes: l2, old }, health);
    const entry = Buffer.from(l1.subarray(i, i + L1_ENTRY_BYTES));
    setFlag(l1, i, once(table));
    const bytes = l1.subarray(i, i + L1_ENTRY_BYTES);
    if (!bytes.equals(entry)) rewrite(storage, { at: header.l1At + i, bytes, old: entry }, health);
    yield steps.part;
  }
}

/** Where an entry points, if it points to a whole cluster inside the file. */
function placeOf(table: Buffer, n: number, header: Header, storage: Storage): number | undefined {
  const [high, low] = [table.readUInt32BE(n), table.readUInt32BE(n + 4)];
  const at = entryOffset(high, low);
  const usable = hasOffset(high, low) && at % header.clusterSize === 0 && at + header.clusterSize <= storage.size();
  return usable ? at : undefined;
}

function setFlag(table: Buffer, n: number, copied: boolean): void {
  table.writeUInt32BE(withCopied(table.readUInt32BE(n), copied), n);
}
