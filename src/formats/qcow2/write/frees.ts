import type { Storage } from '../../../storage/storage.js';
import { CELL, HELD_MAX, WAITING_MAX } from './cells.js';
import { punch } from './punch.js';
import type { ClusterRun, RefcountBook } from './refcount-book.js';
import type { Reserve } from './reserve.js';

/**
 * References that are gone but may come back in a crash: the count of a cluster goes down only when the table that
 * no longer points to it is durable. `held` are those whose table entry is still pending, `waiting` those whose entry
 * is in the file and waits for a barrier. In shared memory, because any thread may run the barrier.
 */
export class Frees {
  constructor(
    private readonly storage: Storage,
    private readonly cells: Float64Array,
    private readonly refcounts: RefcountBook,
    private readonly reserve: Reserve,
    private readonly clusterSize: number,
  ) {}

  /** How many more runs can be held, and waited for. */
  get room(): number {
    return Math.min(HELD_MAX - this.held, WAITING_MAX - this.waiting - this.held);
  }

  hold(runs: readonly ClusterRun[]): void {
    for (const run of runs) this.put(CELL.held, CELL.heldCount, run);
  }

  wait(runs: readonly ClusterRun[]): void {
    for (const run of runs) this.put(CELL.waiting, CELL.waitingCount, run);
  }

  /** The pending entries are in the file: what they replaced waits for the next barrier. */
  published(): void {
    for (let n = 0; n < this.held; n++) this.put(CELL.waiting, CELL.waitingCount, this.get(CELL.held, n));
    this.cells[CELL.heldCount] = 0;
  }

  /** Called after a barrier, before anything else is written: all that waited is durably unreferenced. */
  settle(): void {
    while (this.waiting > 0) {
      const run = this.get(CELL.waiting, this.waiting - 1);
      // Struck off first: a failure halfway leaks clusters, where counting one down twice would lose one.
      this.cells[CELL.waitingCount] = this.waiting - 1;
      const freed = this.refcounts.release(run);
      this.reserve.freed(freed);
      punch(this.storage, freed, this.clusterSize);
    }
  }

  private get held(): number {
    return this.cells[CELL.heldCount]!;
  }

  private get waiting(): number {
    return this.cells[CELL.waitingCount]!;
  }

  private put(list: number, counter: number, { first, count }: ClusterRun): void {
    const { cells } = this;
    const n = cells[counter]!;
    const last = list + (n - 1) * 2;
    if (n > 0 && cells[last]! + cells[last + 1]! === first) cells[last + 1]! += count;
    else {
      cells.set([first, count], list + n * 2);
      cells[counter] = n + 1;
    }
  }

  private get(list: number, n: number): ClusterRun {
    return { first: this.cells[list + n * 2]!, count: this.cells[list + n * 2 + 1]! };
  }
}
