import type { Preallocation } from '../../../image/image.js';
import { DEFAULT_LIMITS } from '../../../image/limits.js';
import { bigEndianBytes } from '../../../lib/bits.js';
import { corrupt, ImgfsError } from '../../../lib/errors.js';
import { type Storage, writeZeros } from '../../../storage/storage.js';
import type { HeaderChanges } from '../encode.js';
import { readHeader } from '../header.js';
import {
  entryOffset,
  hasOffset,
  isCompressed,
  isCopied,
  KIND,
  ownedHigh,
  standardKind,
  wellPlaced,
  withZeroFlag,
} from '../read/layout.js';
import type { ClusterRun } from './refcount-book.js';
import { readL2 } from './table-walk.js';
import type { Transaction } from './transaction.js';
import { Volume } from './volume.js';

/** Guest bytes: whole clusters are looked at. */
interface Range {
  readonly from: number;
  readonly to: number;
}

/**
 * Gives every cluster of the range that reads as zeros and has no place on the host one, in a row behind everything.
 * Their entries say data, and the host has zeros there; with subclusters they only say where, so that a backing image
 * is still seen. In an encrypted image, where the host's zeros would read as noise, they say zeros beside the place, or
 * again only where. Tables are never changed in place: this is one step with the rest of `change`, before which a crash
 * or a full file system leaves all as it was.
 */
export function preallocate(volume: Volume, change: Transaction, range: Range, how: Preallocation): HeaderChanges {
  if (how === 'off' || range.to <= range.from) return {};
  const { tableSpan, clusterSize, external, encryption, version } = volume.live.now;
  if (encryption !== undefined && version === 2) {
    throw new ImgfsError(
      'unsupported',
      `${volume.storage.name}: encrypted and of version 2, in which space set aside would read as noise`,
    );
  }
  const runs = unplaced(volume, range);
  const total = runs.reduce((sum, { count }) => sum + count, 0);
  if (total === 0) return {};
  let next = external ? 0 : change.take(total) * clusterSize;
  if (external) for (const { first, count } of runs) takeOver(volume, first * clusterSize, count * clusterSize, how);
  else takeSpace(volume.storage, next, total * clusterSize, how);
  const words = volume.l1.words.slice();
  for (let index = Math.floor(range.from / tableSpan); index * tableSpan < range.to; index++) {
    const table = tableOf(volume, index);
    const filled = fill(volume, table, index, range, next);
    if (filled === 0) continue;
    next += filled * clusterSize;
    const [high, low] = [words[index * 2]!, words[index * 2 + 1]!];
    if (hasOffset(high, low)) change.add(entryOffset(high, low) / clusterSize, -1);
    const place = change.put(bigEndianBytes(table));
    words[index * 2] = ownedHigh(place);
    words[index * 2 + 1] = place % 2 ** 32;
  }
  return change.putL1(words);
}

/** The same for all of a disk that was just made, in `storage` and, where it has one, `data`. Durable on return. */
export function preallocateNew(storage: Storage, data: Storage, how: Preallocation): void {
  const refuse = (): never => {
    throw new Error('a new image names nothing that is needed');
  };
  const context = { writable: true, limits: DEFAULT_LIMITS, openStorage: refuse, openImage: refuse };
  const volume = new Volume(storage, data, readHeader(storage, context.limits), context);
  volume.prepare();
  volume.change((change) => preallocate(volume, change, { from: 0, to: volume.live.now.size }, how));
}

/** A copy of an active L2 table; an empty one where there is none. */
function tableOf(volume: Volume, index: number): Uint32Array {
  const [high, low] = [volume.l1.words[index * 2]!, volume.l1.words[index * 2 + 1]!];
  if (!hasOffset(high, low)) return new Uint32Array(volume.live.now.clusterSize / 4);
  if (wellPlaced(high, low, volume.rules.clusterMask)) return readL2(volume, entryOffset(high, low));
  throw corrupt(`${volume.storage.name}: L1 entry ${index} does not point to an L2 table`);
}

/** The guest clusters of the range that need a place, in order. */
function unplaced(volume: Volume, range: Range): readonly ClusterRun[] {
  const { tableSpan, clusterSize } = volume.live.now;
  const runs: { first: number; count: number }[] = [];
  for (let index = Math.floor(range.from / tableSpan); index * tableSpan < range.to; index++) {
    const table = tableOf(volume, index);
    for (const n of entriesOf(volume, table, index, range)) {
      const cluster = (index * tableSpan) / clusterSize + n;
      const last = runs.at(-1);
      if (last !== undefined && last.first + last.count === cluster) last.count++;
      else runs.push({ first: cluster, count: 1 });
    }
  }
  return runs;
}

/** Puts places from `host` on into the entries of table `index` that need one. Returns how many did. */
function fill(volume: Volume, table: Uint32Array, index: number, range: Range, host: number): number {
  const { tableSpan, clusterSize, external, extended, encryption } = volume.live.now;
  const step = volume.l2.words;
  const saysZeros = encryption !== undefined && !extended;
  let filled = 0;
  for (const n of entriesOf(volume, table, index, range)) {
    const place = external ? index * tableSpan + n * clusterSize : host + filled * clusterSize;
    table[n * step] = ownedHigh(place);
    table[n * step + 1] = saysZeros ? withZeroFlag(place % 2 ** 32) : place % 2 ** 32;
    filled++;
  }
  return filled;
}

/** The entries of table `index` that lie in the range and need a place. */
function* entriesOf(volume: Volume, table: Uint32Array, index: number, { from, to }: Range): Generator<number> {
  const { tableSpan, clusterSize } = volume.live.now;
  const base = index * tableSpan;
  const end = Math.min(tableSpan / clusterSize, Math.ceil((to - base) / clusterSize));
  for (let n = Math.max(0, Math.floor((from - base) / clusterSize)); n < end; n++) {
    if (needsPlace(volume, table, n * volume.l2.words, base + n * clusterSize)) yield n;
  }
}

function needsPlace(volume: Volume, table: Uint32Array, i: number, at: number): boolean {
  const [high, low] = [table[i]!, table[i + 1]!];
  const { extended, external } = volume.live.now;
  if (extended) return !isCompressed(high) && !hasOffset(high, low) && !(external && isCopied(high));
  const kind = standardKind(high, low, volume.rules);
  return kind === KIND.zero || (kind === KIND.hole && at >= volume.backingSize);
}

/** A part of the data file that nothing refers to: whatever it held, it reads as zeros from now on. */
function takeOver(volume: Volume, at: number, length: number, how: Exclude<Preallocation, 'off'>): void {
  volume.data.discard(at, length);
  takeSpace(volume.data, at, length, how);
  volume.health.barrier(volume.data);
}

function takeSpace(storage: Storage, at: number, length: number, how: Exclude<Preallocation, 'off'>): void {
  if (storage.size() < at + length) storage.resize(at + length);
  if (how === 'falloc') storage.allocate(at, length);
  else if (how === 'full') writeZeros(storage, at, length);
}
