import type { Stamps } from '../../../image/sharing.js';
import { type EntryRun, entriesOf } from '../encode.js';
import type { L2Cache, Overlay, Slice } from '../read/tables.js';
import { CELL, PENDING_MAX, STAMP } from './cells.js';

/** Numbers per record. */
const FIELDS = 7;

/** A run of L2 entries, in one slice, that point to consecutive host clusters or to a compressed one. */
export interface PendingRun extends EntryRun {
  /** Host offset of the slice, and the first entry in it. */
  readonly slice: number;
  readonly first: number;
}

/**
 * L2 entries whose data has been written but may not be durable yet. An entry that reached the medium before its data
 * would show neither old nor new bytes after a crash, so these wait for a barrier, a group at a time. Guests see them
 * at once, in every thread. Past the host's cache others wait too, for a write of the table that serves them all. The
 * records lie in shared memory, and each thread lays them over the slices it caches.
 */
export class Pending implements Overlay {
  private round: number;
  /** Records this thread has laid over its slices. */
  private seen = 0;

  constructor(
    private readonly cells: Float64Array,
    private readonly l2: L2Cache,
    private readonly stamps: Stamps,
    private readonly clusterSize: number,
  ) {
    this.round = cells[CELL.pendingRound]!;
    l2.coverWith(this);
  }

  get count(): number {
    return this.cells[CELL.pendingCount]!;
  }

  hasRoom(runs: number): boolean {
    return this.count + runs <= PENDING_MAX;
  }

  /** Whether what was written so far must be durable before the entries are published. */
  get needsBarrier(): boolean {
    return this.cells[CELL.pendingBarrier] === 1;
  }

  /** `barrier`: its data must be durable before it is published. */
  add(run: PendingRun, barrier: boolean): void {
    const n = this.count;
    if (n >= PENDING_MAX) throw new Error('too many pending entries');
    const { slice, first, count, host, zeros, allocated, packed } = run;
    this.cells.set([slice, first, count, host, zeros, allocated, packed], CELL.pending + n * FIELDS);
    this.cells[CELL.pendingCount] = n + 1;
    if (barrier) this.cells[CELL.pendingBarrier] = 1;
    this.catchUp();
    this.stamps.bump(STAMP.any);
  }

  /** Whether an entry of the slice is pending among `count` from `first` on. */
  touches(slice: number, first: number, count: number): boolean {
    const { cells } = this;
    // Asked for every write into new space: no record is made of what only has to be compared.
    const end = CELL.pending + this.count * FIELDS;
    for (let at = CELL.pending; at < end; at += FIELDS) {
      const from = cells[at + 1]!;
      if (cells[at] === slice && from < first + count && first < from + cells[at + 2]!) return true;
    }
    return false;
  }

  /** Lays what other threads (or `add`) recorded since over the slices this thread has cached. */
  catchUp(): void {
    const round = this.cells[CELL.pendingRound]!;
    if (round !== this.round) {
      // What was published since is in the file; slices with older entries are given away by their stamps.
      this.round = round;
      this.seen = 0;
    }
    for (; this.seen < this.count; this.seen++) {
      const run = this.run(this.seen);
      const slice = this.l2.cached(run.slice);
      if (slice !== undefined) this.lay(run, slice);
    }
  }

  cover(slice: Slice): void {
    for (let n = 0; n < this.count; n++) {
      const run = this.run(n);
      if (run.slice === slice.at) this.lay(run, slice);
    }
  }

  /** The offsets of the slices that have pending entries. */
  slices(): ReadonlySet<number> {
    return new Set(Array.from({ length: this.count }, (_, n) => this.run(n).slice));
  }

  /** The runs in one slice, oldest first: a later one replaces entries of an earlier one. */
  runsOf(slice: number): readonly PendingRun[] {
    return Array.from({ length: this.count }, (_, n) => this.run(n)).filter((run) => run.slice === slice);
  }

  /** All are in the file now. */
  published(): void {
    this.cells[CELL.pendingCount] = 0;
    this.cells[CELL.pendingBarrier] = 0;
    this.cells[CELL.pendingRound] = this.round + 1;
    this.round++;
    this.seen = 0;
    this.stamps.bump(STAMP.any);
  }

  private lay(run: PendingRun, slice: Slice): void {
    if (slice.live === slice.disk) slice.live = slice.disk.slice();
    slice.live.set(entriesOf(run, this.clusterSize, this.l2.words), run.first * this.l2.words);
  }

  private run(n: number): PendingRun {
    const at = CELL.pending + n * FIELDS;
    const [slice, first, count, host, zeros, allocated, packed] = this.cells.subarray(at, at + FIELDS);
    return {
      slice: slice!,
      first: first!,
      count: count!,
      host: host!,
      zeros: zeros!,
      allocated: allocated!,
      packed: packed!,
    };
  }
}
