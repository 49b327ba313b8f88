import { corrupt } from '../../../lib/errors.js';
import { SUBCLUSTERS } from '../layout.js';
import { clearBits, hasOffset, setBits, subclusterBits, withZeroFlag } from '../read/layout.js';
import type { Slice } from '../read/tables.js';
import { type EntryFacts, factsAt, referencesOfEntry } from './entries.js';
import { ownTable } from './own-table.js';
import { makeRoom } from './place.js';
import type { ClusterRun } from './refcount-book.js';
import type { Volume } from './volume.js';

/** Entries changed by one call at most: what they free must fit the log. */
const MAX_ENTRIES = 64;

/** A guest range within one slice of an L2 table, whole units. */
interface Part {
  readonly slice: Slice;
  readonly first: number;
  /** Guest offset of the first entry's cluster. */
  readonly base: number;
  readonly at: number;
  readonly length: number;
  readonly unmap: boolean;
}

/**
 * Makes units read as zeros by their entries alone and returns how many bytes were done; 0 where that cannot be said
 * for the first unit, which then has to be written. `reach` is where the backing image ends: only what it covers
 * needs to be told apart from a hole. References dropped here are counted down after the next barrier, and the host
 * gets the space then: until the entry is durable, the old bytes may be wanted again.
 */
export function zero(volume: Volume, at: number, length: number, unmap: boolean): number {
  const { clusterSize, tableSpan, extended, size } = volume.live.now;
  const unit = extended ? clusterSize / SUBCLUSTERS : clusterSize;
  // The disk may end inside a unit; behind it nobody sees anything.
  const asked = at + length === size ? Math.ceil(length / unit) * unit : length - (length % unit);
  if (at % unit !== 0 || asked === 0) return 0;
  const number = Math.floor(at / tableSpan);
  const inTable = Math.min(asked, (number + 1) * tableSpan - at);
  const { words } = volume.l1;
  const absent = !hasOffset(words[number * 2] ?? 0, words[number * 2 + 1] ?? 0);
  if (absent && at >= volume.backingSize) return Math.min(length, inTable);
  if (absent && volume.live.now.version === 2) return 0;
  return Math.min(length, inSlice(volume, at, inTable, unmap));
}

function inSlice(volume: Volume, at: number, length: number, unmap: boolean): number {
  const { clusterSize, tableSpan, extended } = volume.live.now;
  makeRoom(volume);
  const number = Math.floor(at / tableSpan);
  const table = ownTable(volume, number);
  const index = Math.floor((at - number * tableSpan) / clusterSize);
  const first = index % volume.l2.entries;
  // An entry that waits for its data must not come back over what is written now. Publishing may take slices out of the
  // cache: none is held meanwhile.
  if (volume.pending.touches(volume.l2.sliceOffset(table, index), first, MAX_ENTRIES)) volume.publish();
  const slice = volume.l2.slice(table, index);
  const base = at - (at % clusterSize);
  const part = { slice, first, base, at, length, unmap };
  return extended ? zeroSubclusters(volume, part) : zeroClusters(volume, part);
}

/** The words of an entry that reads as zeros, or undefined where it cannot say so. */
function zeroed(volume: Volume, slice: Slice, n: number, at: number, unmap: boolean): Uint32Array | undefined {
  const facts = factsAt(volume, slice, n);
  const { version, external } = volume.live.now;
  const old = slice.live.subarray(n * 2, n * 2 + 2);
  if (facts.kind === 'bad') throw corrupt(`${volume.storage.name}: the L2 entry for guest offset ${at} is invalid`);
  const covered = at < volume.backingSize;
  if (facts.kind === 'hole' && !covered) return old;
  if (external) return facts.kind === 'data' ? undefined : Uint32Array.of(0, withZeroFlag(0));
  if (version === 2) return unmap && !covered ? Uint32Array.of(0, 0) : undefined;
  if (facts.kind === 'zero' && (!unmap || facts.host === undefined)) return old;
  if (!unmap && facts.owned) return Uint32Array.of(old[0]!, withZeroFlag(old[1]!));
  return Uint32Array.of(0, withZeroFlag(0));
}

function zeroClusters(volume: Volume, { slice, first, base, length, unmap }: Part): number {
  const { clusterSize } = volume.live.now;
  const most = Math.min(MAX_ENTRIES, length / clusterSize, volume.l2.entries - first);
  const next = new Uint32Array(most * 2);
  const frees: ClusterRun[] = [];
  let count = 0;
  for (; count < most; count++) {
    const n = first + count;
    const words = zeroed(volume, slice, n, base + count * clusterSize, unmap);
    if (words === undefined) break;
    next.set(words, count * 2);
    noteFrees(volume, frees, slice.live.subarray(n * 2, n * 2 + 2), words);
  }
  if (count === 0) return discardExternal(volume, slice, { first, base, unmap });
  change(volume, slice, first, next.subarray(0, count * 2), frees);
  return count * clusterSize;
}

/** What the old entry refers to and the new one does not. */
function noteFrees(volume: Volume, frees: ClusterRun[], old: Uint32Array, next: Uint32Array): void {
  if (hasOffset(next[0]!, next[1]!)) return;
  const run = referencesOfEntry(volume, old[0]!, old[1]!);
  if (run !== undefined) frees.push(run);
}

function change(volume: Volume, slice: Slice, first: number, next: Uint32Array, frees: readonly ClusterRun[]): void {
  const old = slice.live.subarray(first * volume.l2.words, first * volume.l2.words + next.length);
  if (next.some((word, i) => word !== old[i])) volume.l2.write(slice.at, first, next, volume.health);
  volume.frees.wait(frees);
}

/**
 * In a data file a hole of the host is as good as an entry, and a raw one must read as zeros by itself. Not where it is
 * encrypted.
 */
function discardExternal(volume: Volume, slice: Slice, at: { first: number; base: number; unmap: boolean }): number {
  const { external, clusterSize } = volume.live.now;
  if (!external || volume.view !== undefined || !at.unmap || factsAt(volume, slice, at.first).kind !== 'data') return 0;
  volume.data.discard(at.base, clusterSize);
  return clusterSize;
}

function zeroSubclusters(volume: Volume, part: Part): number {
  const { clusterSize } = volume.live.now;
  const { slice, first, base, at, length } = part;
  const unit = clusterSize / SUBCLUSTERS;
  const end = at + length;
  const most = Math.min(MAX_ENTRIES, Math.ceil((end - base) / clusterSize), volume.l2.entries - first);
  const next = new Uint32Array(most * 4);
  const frees: ClusterRun[] = [];
  let done = at;
  let count = 0;
  for (; count < most; count++) {
    const cluster = base + count * clusterSize;
    const from = Math.max(0, at - cluster) / unit;
    const to = Math.min(clusterSize, end - cluster) / unit;
    const facts = factsAt(volume, slice, first + count);
    if (facts.kind === 'bad') throw corrupt(`${volume.storage.name}: the L2 entry for ${cluster} is invalid`);
    const old = slice.live.slice((first + count) * 4, (first + count) * 4 + 4);
    const words = zeroedSubclusters(volume, old, facts, { from, to, unmap: part.unmap });
    if (words === undefined) break;
    next.set(words, count * 4);
    noteFrees(volume, frees, old, words);
    done = cluster + to * unit;
  }
  if (count === 0)
    return discardExternal(volume, slice, {
      first,
      base,
      unmap: part.unmap && at === base && end >= base + clusterSize,
    });
  change(volume, slice, first, next.subarray(0, count * 4), frees);
  return done - at;
}

/** An extended entry whose subclusters `from` to `to - 1` read as zeros, or undefined where it cannot say so. */
function zeroedSubclusters(
  volume: Volume,
  [high, low, zeros, allocated]: Uint32Array,
  facts: EntryFacts,
  range: { from: number; to: number; unmap: boolean },
): Uint32Array | undefined {
  const whole = range.from === 0 && range.to === SUBCLUSTERS;
  const mask = subclusterBits(range.from, range.to);
  if (volume.live.now.external && clearBits(mask, allocated!) !== mask) return undefined;
  if (facts.compressed) return whole ? Uint32Array.of(0, 0, mask, 0) : undefined;
  const left = clearBits(allocated!, mask);
  // A cluster without data is not worth keeping, unless space was to be kept and it is ours alone.
  const keep = left !== 0 || (!range.unmap && facts.owned) || volume.live.now.external;
  return Uint32Array.of(keep ? high! : 0, keep ? low! : 0, setBits(zeros!, mask), left);
}
