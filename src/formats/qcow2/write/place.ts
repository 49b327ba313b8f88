import type { Placement } from '../../../image/writer.js';
import { roundUp } from '../../../lib/bits.js';
import { corrupt } from '../../../lib/errors.js';
import type { Storage } from '../../../storage/storage.js';
import { entriesOf } from '../encode.js';
import { SUBCLUSTERS } from '../layout.js';
import { clearBits, entryOffset, setBits, subclusterBits } from '../read/layout.js';
import type { Slice } from '../read/tables.js';
import { CELL } from './cells.js';
import { type EntryFacts, factsAt, referencesOf } from './entries.js';
import { ownTable } from './own-table.js';
import type { PendingRun } from './pending.js';
import type { ClusterRun } from './refcount-book.js';
import type { Taken } from './reserve.js';
import type { Volume } from './volume.js';

/** Runs of clusters one placement may free: what of the log of frees it may need at most. */
const MAX_FREES = 64;
/** A shared L2 table may be replaced on the way. */
const SPARE = 1;
/** A run of clusters whose first and last are cut in subclusters is three runs of equal entries. */
const MAX_RUNS = 3;

/** Where a placement begins: the slice, the first entry in it, and the guest range within that entry's cluster on. */
interface Spot {
  readonly slice: Slice;
  readonly first: number;
  /** Guest offset of the first cluster. */
  readonly base: number;
  /** From `base` to the first and behind the last byte to be written. */
  readonly from: number;
  readonly to: number;
}

/**
 * Space for guest bytes that cannot be overwritten in place: clusters of its own for what has none or shares one, the
 * same clusters for what is allocated without being data. One placement lies within one slice of an L2 table.
 */
export function place(volume: Volume, at: number, length: number): Placement {
  const { clusterSize, extended } = volume.live.now;
  const { slice, first, facts } = entryFor(volume, at);
  const base = at - (at % clusterSize);
  const to = Math.min(at - base + length, (volume.l2.entries - first) * clusterSize);
  const spot = { slice, first, base, from: at - base, to };
  if (facts.owned) return extended ? inCluster(volume, spot) : inClusters(volume, spot);
  return extended ? newSubclusters(volume, spot, facts) : newClusters(volume, spot);
}

/** An entry that may be changed: its slice, its number there, and what it says. */
export interface EntryPlace {
  readonly slice: Slice;
  readonly first: number;
  readonly facts: EntryFacts;
}

/** The entry for guest offset `at`, in a table of its own, with room in the logs to change it. Throws `corrupt`. */
export function entryFor(volume: Volume, at: number): EntryPlace {
  makeRoom(volume);
  const { clusterSize, tableSpan } = volume.live.now;
  const number = Math.floor(at / tableSpan);
  const table = ownTable(volume, number);
  const index = Math.floor((at - number * tableSpan) / clusterSize);
  const slice = volume.l2.slice(table, index);
  const first = index % volume.l2.entries;
  const facts = factsAt(volume, slice, first);
  if (facts.kind === 'bad') throw corrupt(`${volume.storage.name}: the L2 entry for guest offset ${at} is invalid`);
  return { slice, first, facts };
}

/** Room in the logs of what waits for a barrier, so that nothing can fail for want of it once data is written. */
export function makeRoom(volume: Volume): void {
  const { pending, frees } = volume;
  if (!pending.hasRoom(MAX_RUNS) || frees.room < MAX_FREES + SPARE) volume.publish();
  if (frees.room < MAX_FREES + SPARE) volume.barrier();
}

/** Allocated clusters that read as zeros, without subclusters: written where they are, whole. */
function inClusters(volume: Volume, { slice, first, base, to }: Spot): Placement {
  const { clusterSize } = volume.live.now;
  const host = entryOffset(slice.live[first * 2]!, slice.live[first * 2 + 1]!);
  const most = Math.ceil(to / clusterSize);
  let count = 1;
  while (count < most) {
    const next = factsAt(volume, slice, first + count);
    if (next.kind !== 'zero' || !next.owned || next.host !== host + count * clusterSize) break;
    count++;
  }
  volume.guard.check(volume.data, host, count * clusterSize);
  const run = { slice: slice.at, first, count, host, zeros: 0, allocated: 0, packed: 0 };
  const place = {
    start: base,
    length: count * clusterSize,
    storage: volume.content(base, host),
    offset: host,
    fresh: false,
  };
  return new ClusterPlacement(volume, place, [run], [], undefined);
}

/** Subclusters of a cluster that is allocated already. */
function inCluster(volume: Volume, { slice, first, base, from, to }: Spot): Placement {
  const { clusterSize } = volume.live.now;
  const unit = clusterSize / SUBCLUSTERS;
  const [high, low, zeros, allocated] = slice.live.subarray(first * 4, first * 4 + 4);
  const host = volume.live.now.external ? base : entryOffset(high!, low!);
  const begin = Math.floor(from / unit);
  const most = Math.min(SUBCLUSTERS, Math.ceil(to / unit));
  let end = begin + 1;
  while (end < most && clearBits(subclusterBits(end, end + 1), allocated!) !== 0) end++;
  const mask = subclusterBits(begin, end);
  // Never used: the cluster had one life since the file ended before it, and no zeros replaced data here.
  const unused = clearBits(mask, zeros!) === mask && host >= volume.cells[CELL.freshFrom]! * clusterSize;
  const fresh = unused && !volume.live.now.external;
  const offset = host + begin * unit;
  const length = (end - begin) * unit;
  volume.guard.check(volume.data, offset, length);
  const run = {
    slice: slice.at,
    first,
    count: 1,
    host,
    zeros: clearBits(zeros!, mask),
    allocated: setBits(allocated!, mask),
    packed: 0,
  };
  const place = { start: base + begin * unit, length, storage: volume.content(base, host), offset, fresh };
  return new ClusterPlacement(volume, place, [run], [], undefined);
}

/** New clusters in place of holes, zeros, compressed clusters and clusters that snapshots share. */
function newClusters(volume: Volume, spot: Spot): Placement {
  const { clusterSize } = volume.live.now;
  const most = Math.ceil(spot.to / clusterSize);
  const taken = takeFor(volume, spot, most, () => true);
  const { slice, first, base } = spot;
  const host = taken.first * clusterSize;
  const run = { slice: slice.at, first, count: taken.count, host, zeros: 0, allocated: 0, packed: 0 };
  const place = {
    start: base,
    length: taken.count * clusterSize,
    storage: volume.content(base, host),
    offset: host,
    fresh: taken.fresh,
  };
  return new ClusterPlacement(volume, place, [run], taken.frees, taken.own);
}

/**
 * As `newClusters`, cut at subclusters: where the old clusters hold no data, only the subclusters written become data
 * and the rest stays as it is. Where they do, all of it moves to the new cluster.
 */
function newSubclusters(volume: Volume, spot: Spot, facts: EntryFacts): Placement {
  const { clusterSize } = volume.live.now;
  const { slice, first, base } = spot;
  const unit = clusterSize / SUBCLUSTERS;
  const bare = facts.kind !== 'data';
  const most = Math.ceil(spot.to / clusterSize);
  const taken = takeFor(volume, spot, most, (next) => (next.kind !== 'data') === bare);
  const all = taken.count * clusterSize;
  const begin = bare ? Math.floor(spot.from / unit) : 0;
  const end = bare ? Math.min(all, roundUp(spot.to, unit)) / unit : all / unit;
  const host = taken.first * clusterSize;
  const cut = (n: number): PendingRun => {
    const mask = subclusterBits(Math.max(0, begin - n * SUBCLUSTERS), Math.min(SUBCLUSTERS, end - n * SUBCLUSTERS));
    const zeros = bare ? clearBits(slice.live[(first + n) * 4 + 2]!, mask) : 0;
    return {
      slice: slice.at,
      first: first + n,
      count: 1,
      host: host + n * clusterSize,
      zeros,
      allocated: mask,
      packed: 0,
    };
  };
  const runs = [cut(0)];
  if (taken.count > 2) {
    const allocated = subclusterBits(0, SUBCLUSTERS);
    const middle = { slice: slice.at, first: first + 1, count: taken.count - 2, host: host + clusterSize };
    runs.push({ ...middle, zeros: 0, allocated, packed: 0 });
  }
  if (taken.count > 1) runs.push(cut(taken.count - 1));
  const place = {
    start: base + begin * unit,
    length: (end - begin) * unit,
    storage: volume.content(base, host),
    offset: host + begin * unit,
    fresh: taken.fresh,
  };
  return new ClusterPlacement(volume, place, runs, taken.frees, taken.own);
}

/** Clusters for entries from the spot's first on that all need new ones and pass `fits`, and what they refer to now. */
function takeFor(
  volume: Volume,
  spot: Spot,
  most: number,
  fits: (facts: EntryFacts) => boolean,
): Taken & { readonly frees: readonly ClusterRun[]; readonly own: Taken | undefined } {
  const { slice, first, base } = spot;
  const { clusterSize, external } = volume.live.now;
  let frees = 0;
  // Into space never touched go most large writes: no entry need be taken apart there.
  let count = emptyEntries(volume, slice, first, most);
  while (count < most) {
    const facts = factsAt(volume, slice, first + count);
    if (facts.kind === 'bad' || facts.owned || !fits(facts)) break;
    if (facts.kind === 'data' || facts.host !== undefined) frees++;
    if (frees > MAX_FREES) break;
    count++;
  }
  if (external) return { first: base / clusterSize, count, fresh: false, frees: [], own: undefined };
  const own = volume.reserve.take(count);
  const replaced =
    frees === 0 ? [] : Array.from({ length: own.count }, (_, n) => referencesOf(volume, slice, first + n));
  return {
    first: own.first,
    count: own.count,
    fresh: own.fresh,
    frees: replaced.filter((run) => run !== undefined),
    own,
  };
}

/** How many entries from `first` on, at most `most`, say nothing at all: holes for which nothing is allocated. */
function emptyEntries({ l2 }: Volume, { live }: Slice, first: number, most: number): number {
  const end = (first + most) * l2.words;
  let i = first * l2.words;
  while (i < end && live[i] === 0) i++;
  return Math.floor(i / l2.words) - first;
}

type Place = Pick<Placement, 'start' | 'length' | 'storage' | 'offset' | 'fresh'>;

class ClusterPlacement implements Placement {
  readonly start: number;
  readonly length: number;
  readonly storage: Storage;
  readonly offset: number;
  readonly fresh: boolean;

  constructor(
    private readonly volume: Volume,
    place: Place,
    private readonly runs: readonly PendingRun[],
    /** What the entries refer to now. */
    private readonly frees: readonly ClusterRun[],
    private readonly taken: Taken | undefined,
  ) {
    this.start = place.start;
    this.length = place.length;
    this.storage = place.storage;
    this.offset = place.offset;
    this.fresh = place.fresh;
  }

  commit(barrier: boolean): void {
    const { pending, frees, l2, health, storage } = this.volume;
    const { runs } = this;
    // An entry that is pending for its older data must not reach the file before it through the back door. Where each
    // table write would wait for the medium, entries are gathered: a group costs hardly more than one.
    const gathered = barrier || storage.unbuffered === true;
    if (gathered || runs.some(({ slice, first, count }) => pending.touches(slice, first, count))) {
      for (const run of runs) pending.add(run, barrier);
      frees.hold(this.frees);
      return;
    }
    const [{ slice, first }] = runs as readonly [PendingRun];
    const { clusterSize } = this.volume.live.now;
    const parts = runs.map((run) => entriesOf(run, clusterSize, l2.words));
    try {
      l2.write(slice, first, parts.length === 1 ? parts[0]! : joined(parts), health);
    } catch (error) {
      this.abandon();
      throw error;
    }
    frees.wait(this.frees);
  }

  abandon(): void {
    const { cells, reserve, live } = this.volume;
    try {
      if (this.taken !== undefined) reserve.release(this.taken);
      // Something may have been written into subclusters that were never used.
      else if (this.fresh) cells[CELL.freshFrom] = Math.floor(this.offset / live.now.clusterSize) + 1;
    } catch {
      // The clusters leak; the failure that led here is the one to report.
    }
  }
}

function joined(parts: readonly Uint32Array[]): Uint32Array {
  const words = new Uint32Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    words.set(part, at);
    at += part.length;
  }
  return words;
}
