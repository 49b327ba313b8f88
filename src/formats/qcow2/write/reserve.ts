import type { Storage } from '../../../storage/storage.js';
import { CELL } from './cells.js';
import type { Guard } from './guard.js';
import type { ClusterRun, RefcountBook } from './refcount-book.js';
import { type Changing, transact } from './transaction.js';

const MIB = 1024 * 1024;
/** What is reserved ahead: little at first, so that an image that is hardly written is hardly changed. */
const FIRST_RUN_BYTES = MIB;
/** Each run is so many times as long as the one before: every run costs a barrier. */
const STEP = 4;
const MAX_RUN_BYTES = 64 * MIB;
const MAX_RUN_CLUSTERS = 8192;
/** Refcounts one reservation looks at in search of freed clusters before it takes new ones. */
const SEARCH = 262_144;

/** Clusters taken, and whether the host has zeros there for certain. */
export interface Taken extends ClusterRun {
  readonly fresh: boolean;
}

/**
 * Hands out host clusters. Their refcounts were raised, and made durable, for a whole run ahead, so that handing out
 * costs nothing: whatever a crash leaves, no table points to a cluster that counts as free. The run is given back
 * when the image is closed; a crash leaks what is left of it.
 */
export class Reserve {
  private readonly storage: Storage;
  private readonly refcounts: RefcountBook;
  private readonly guard: Guard;
  private readonly cells: Float64Array;
  private readonly clusterSize: number;

  constructor(private readonly parts: Changing) {
    this.storage = parts.storage;
    this.refcounts = parts.refcounts;
    this.guard = parts.guard;
    this.cells = parts.cells;
    this.clusterSize = parts.live.now.clusterSize;
  }

  /** Up to `count` clusters in a row, at least one. Throws `no-space`. */
  take(count: number): Taken {
    if (this.left === 0) this.reserve();
    else if (this.left < count) this.extend();
    return this.cut(Math.min(count, this.left));
  }

  /**
   * A place for a compressed cluster of `bytes` bytes, fewer than a cluster has, at any byte: behind the one before, and
   * on into the next host cluster where that follows. Each host cluster counts a reference more, which is durable with
   * the next barrier, or with the run. Throws `no-space`.
   */
  takePacked(bytes: number): number {
    const { cells, clusterSize } = this;
    const next = cells[CELL.packedNext]!;
    const current = Math.floor(next / clusterSize);
    const open = next > 0 && this.refcounts.hasRoom(current);
    if (open && next + bytes <= (current + 1) * clusterSize) {
      this.refcounts.raise({ first: current, count: 1 });
      return this.packedAt(next, bytes);
    }
    const taken = this.take(1);
    if (!open || taken.first !== current + 1) return this.packedAt(taken.first * clusterSize, bytes);
    try {
      this.refcounts.raise({ first: current, count: 1 });
    } catch (error) {
      this.release(taken);
      throw error;
    }
    return this.packedAt(next, bytes);
  }

  /** Nothing points to these: their counts go down at once. They may have been written, so they are not fresh again. */
  release(run: ClusterRun): void {
    this.freed(this.refcounts.release(run));
  }

  /** The clusters are free from now on: a later reservation may find them. */
  freed(runs: readonly ClusterRun[]): void {
    const { cells } = this;
    for (const { first, count } of runs) {
      cells[CELL.freeFrom] = Math.min(cells[CELL.freeFrom]!, first);
      const packed = Math.floor(cells[CELL.packedNext]! / this.clusterSize);
      if (packed >= first && packed < first + count) cells[CELL.packedNext] = 0;
    }
  }

  /** Gives back what was reserved and not used, and the end of the file with it. No compressed cluster goes on in an old one. */
  giveBack(): void {
    const { cells, clusterSize } = this;
    const first = cells[CELL.runNext]!;
    const count = this.left;
    cells[CELL.packedNext] = 0;
    if (count === 0) return;
    cells[CELL.runEnd] = first;
    this.freed(this.refcounts.release({ first, count }));
    const atEnd = cells[CELL.runFresh] === 1 && this.storage.size() === (first + count) * clusterSize;
    if (atEnd) this.storage.resize(first * clusterSize);
  }

  /** Compressed clusters go on behind this one; one that ends with its host cluster leaves nothing to go on in. */
  private packedAt(offset: number, bytes: number): number {
    const end = offset + bytes;
    this.cells[CELL.packedNext] = end % this.clusterSize === 0 ? 0 : end;
    return offset;
  }

  private get left(): number {
    return this.cells[CELL.runEnd]! - this.cells[CELL.runNext]!;
  }

  private cut(count: number): Taken {
    const { cells } = this;
    const first = cells[CELL.runNext]!;
    const fresh = cells[CELL.runFresh] === 1;
    this.guard.check(this.storage, first * this.clusterSize, count * this.clusterSize);
    cells[CELL.runNext] = first + count;
    return { first, count, fresh };
  }

  /** A new run: freed clusters if some are found quickly, else new ones behind the end of the file. */
  private reserve(): void {
    const length = this.nextLength();
    const found = this.findFreed(length, SEARCH);
    if (found !== undefined) {
      this.reserveFreed(found);
      return;
    }
    try {
      this.reserveFresh(length);
    } catch (error) {
      // A device has no room behind its end; a full file system may have freed clusters that take the data.
      const rest = this.parts.health.sound ? this.findFreed(length, Number.POSITIVE_INFINITY) : undefined;
      if (rest === undefined) throw error;
      this.reserveFreed(rest);
    }
  }

  /** Reserves what follows the run, where that is new space, so that a large write stays in one piece. */
  private extend(): void {
    const { cells } = this;
    const [first, end, fresh] = [cells[CELL.runNext]!, cells[CELL.runEnd]!, cells[CELL.runFresh]!];
    if (fresh !== 1 || this.storage.size() !== end * this.clusterSize) return;
    try {
      this.reserveFresh(this.nextLength());
    } catch (error) {
      // What is left serves for a while.
      if (this.parts.health.sound) return;
      throw error;
    }
    if (cells[CELL.runNext] === end) cells[CELL.runNext] = first;
    else this.release({ first, count: end - first });
  }

  /**
   * Lengthens a run of new space that is mostly used up to that of a new one, with no barrier of its own: what is
   * returned hands the new part out, and is to be called once the barrier that comes anyway has made its counts durable.
   */
  lengthen(): (() => void) | undefined {
    const { cells, storage, clusterSize } = this;
    const { left } = this;
    const end = cells[CELL.runEnd]!;
    const enough = left >= Math.min(cells[CELL.runLength]!, this.longest) / 4;
    if (enough || cells[CELL.runFresh] !== 1 || storage.size() !== end * clusterSize) return undefined;
    if (this.countable(end, 1) === 0) return undefined;
    const run = { first: end, count: this.countable(end, this.nextLength() - left) };
    try {
      this.raise(run);
    } catch (error) {
      // Nobody has asked for it yet.
      if (this.parts.health.sound) return undefined;
      throw error;
    }
    return () => {
      cells[CELL.runEnd] = end + run.count;
    };
  }

  private get longest(): number {
    const { clusterSize } = this;
    return Math.min(
      MAX_RUN_CLUSTERS,
      MAX_RUN_BYTES / clusterSize,
      Math.ceil(this.parts.live.now.size / 4 / clusterSize),
    );
  }

  private nextLength(): number {
    const { cells, clusterSize, longest: most } = this;
    const length = cells[CELL.runLength]! || Math.ceil(FIRST_RUN_BYTES / clusterSize);
    cells[CELL.runLength] = Math.max(length, Math.min(length * STEP, most), 1);
    return Math.max(4, Math.min(length, most));
  }

  private findFreed(most: number, budget: number): ClusterRun | undefined {
    const { cells, refcounts } = this;
    const end = Math.floor(this.storage.size() / this.clusterSize);
    const from = cells[CELL.freeFrom]!;
    const stop = Math.min(end, from + budget);
    if (from >= stop) return undefined;
    const first = from + refcounts.runLength(from, stop - from, true);
    const count = first < stop ? refcounts.runLength(first, Math.min(most, end - first)) : 0;
    cells[CELL.freeFrom] = first + count;
    return count === 0 ? undefined : { first, count };
  }

  private reserveFreed(run: ClusterRun): void {
    this.refcounts.raise(run);
    this.parts.health.barrier(this.storage);
    const end = run.first + run.count;
    this.cells[CELL.freshFrom] = Math.max(this.cells[CELL.freshFrom]!, end);
    this.enter(run, false);
  }

  private enter(run: ClusterRun, fresh: boolean): void {
    this.cells[CELL.runNext] = run.first;
    this.cells[CELL.runEnd] = run.first + run.count;
    this.cells[CELL.runFresh] = fresh ? 1 : 0;
  }

  /**
   * Reserves behind the end of the file, which grows first: no table may ever point past it. Where no refcount block
   * counts the new clusters yet, the tables are replaced by larger ones in one step.
   */
  private reserveFresh(most: number): void {
    const { storage, clusterSize } = this;
    const first = this.firstUncounted(Math.ceil(storage.size() / clusterSize));
    const count = this.countable(first, most);
    if (count === 0) {
      let start = first;
      transact(this.parts, (change) => {
        start = change.take(most);
        return {};
      });
      this.enter({ first: start, count: most }, true);
      return;
    }
    const run = { first, count };
    this.raise(run, () => this.parts.health.barrier(storage));
    this.enter(run, true);
  }

  /** Counts a run behind the end of the file, which grows first. All is undone where that, or `then`, throws. */
  private raise(run: ClusterRun, then = (): void => {}): void {
    const before = this.storage.size();
    this.storage.resize((run.first + run.count) * this.clusterSize);
    try {
      this.refcounts.raise(run);
      then();
    } catch (error) {
      this.undo(run, before);
      throw error;
    }
  }

  /** A crash may have left counts behind the end of the file; what has one is not touched. */
  private firstUncounted(from: number): number {
    let first = from;
    while (this.refcounts.at(first) !== 0) first++;
    return first;
  }

  /** How many clusters from `first` on, at most `most`, are unused and have a refcount block. */
  private countable(first: number, most: number): number {
    const { refcounts } = this;
    const { perBlock } = refcounts;
    let end = first;
    while (end < first + most && refcounts.blockAt(Math.floor(end / perBlock)) !== 0) {
      end = (Math.floor(end / perBlock) + 1) * perBlock;
    }
    return refcounts.runLength(first, Math.min(end, first + most) - first);
  }

  /** Nothing refers to the run: whatever of this fails only leaks. */
  private undo(run: ClusterRun, size: number): void {
    try {
      this.refcounts.release(run);
      this.storage.resize(size);
    } catch {
      // The first failure is the one to report.
    }
  }
}
