import { roundDown } from '../lib/bits.js';
import { ImgfsError, type Reason } from '../lib/errors.js';
import type { Storage, StorageExtent } from './storage.js';

/** What can be made to fail. `size`, `extent`, `allocated` and `close` never do. */
export type Operation = 'read' | 'write' | 'flush' | 'resize' | 'discard' | 'allocate';

/**
 * What happens instead of the operation. `io` and `no-space`: it fails having done nothing. `short`: a read ends in
 * its middle as if the storage did; a write (or discard, or allocation) does its first half and then fails for want of
 * space.
 */
export type Effect = 'io' | 'no-space' | 'short';

/** Which operations fail, and how. */
export interface Fault {
  /** Only these kinds are counted and fail. By default all. */
  readonly kinds?: readonly Operation[];
  /** The first to fail, counted from 1 over all storages of the plan; 0 or Infinity lets all pass. */
  readonly at: number;
  /** Whether every later one fails too. */
  readonly persistent: boolean;
  readonly effect: Effect;
  /** Only what needs new space is counted and fails: what a full file system does to a sparse file. */
  readonly growing?: boolean;
  /** A short write ends at a multiple of this, as hosts store whole sectors; by default anywhere. */
  readonly sector?: number;
}

/** Nothing fails; operations are only counted, which tells a loop over faults how far it has to go. */
export const NO_FAULT: Fault = { at: Number.POSITIVE_INFINITY, persistent: false, effect: 'io' };

/**
 * Makes the k-th operation fail, or every one from the k-th on, over one or several storages. The loop "fail the 1st,
 * the 2nd, ... until a run completes without a fault" proves every error path without knowing which there are.
 */
export class Faults {
  private readonly done: Record<Operation, number> = {
    read: 0,
    write: 0,
    flush: 0,
    resize: 0,
    discard: 0,
    allocate: 0,
  };
  private readonly broken: Record<Operation, number> = {
    read: 0,
    write: 0,
    flush: 0,
    resize: 0,
    discard: 0,
    allocate: 0,
  };
  private matching = 0;
  private active = true;

  constructor(private readonly fault: Fault = NO_FAULT) {}

  /** Operations so far, by kind, those that failed included. */
  get counts(): Readonly<Record<Operation, number>> {
    return this.done;
  }

  /** How many operations were made to fail. 0 after a run: the fault lay beyond its end. */
  get fired(): number {
    return Object.values(this.broken).reduce((sum, n) => sum + n, 0);
  }

  /** The same by kind. */
  get failed(): Readonly<Record<Operation, number>> {
    return this.broken;
  }

  /** A storage over `below` that obeys this plan. Closing it closes `below`. */
  inject(below: Storage): Storage {
    return new FaultyStorage(
      below,
      (operation, at = 0, length = 0) => {
        const takes = operation === 'write' || operation === 'allocate';
        const counts = this.fault.growing !== true || (takes && needsSpace(below, at, length));
        return counts ? this.next(operation) : undefined;
      },
      this.fault.sector,
    );
  }

  /** Runs `action` with nothing failing or counted: for looking at what a fault has left. */
  suspended<T>(action: () => T): T {
    const before = this.active;
    this.active = false;
    try {
      return action();
    } finally {
      this.active = before;
    }
  }

  /** Nothing fails any more: space was freed, a cable put back. A storage whose flush failed stays as it is. */
  lift(): void {
    this.active = false;
  }

  /** Counts one operation and says what is to happen to it. */
  private next(operation: Operation): Effect | undefined {
    if (!this.active) return undefined;
    this.done[operation]++;
    const { kinds, at, persistent, effect } = this.fault;
    if (kinds !== undefined && !kinds.includes(operation)) return undefined;
    this.matching++;
    if (at < 1 || (persistent ? this.matching < at : this.matching !== at)) return undefined;
    this.broken[operation]++;
    return effect;
  }
}

function needsSpace(storage: Storage, at: number, length: number): boolean {
  for (let here = at; here < at + length; ) {
    if (here >= storage.size()) return true;
    const extent = storage.extent(here);
    if (!extent.data) return true;
    here += extent.length;
  }
  return false;
}

class FaultyStorage implements Storage {
  private failedFlush: ImgfsError | undefined;

  constructor(
    private readonly below: Storage,
    private readonly next: (operation: Operation, at?: number, length?: number) => Effect | undefined,
    private readonly cut = 1,
  ) {}

  get name(): string {
    return this.below.name;
  }

  get writable(): boolean {
    return this.below.writable;
  }

  get unbuffered(): boolean {
    return this.below.unbuffered === true;
  }

  size(): number {
    return this.below.size();
  }

  /** How much of a write a short one stores. */
  private half(at: number, length: number): number {
    return Math.max(0, roundDown(at + Math.floor(length / 2), this.cut) - at);
  }

  read(into: Uint8Array, at: number): number {
    const effect = this.next('read');
    if (effect === undefined) return this.below.read(into, at);
    if (effect !== 'short') throw this.injected(effect, 'read');
    return this.below.read(into.subarray(0, Math.floor(into.length / 2)), at);
  }

  write(from: Uint8Array, at: number): void {
    this.assertHealthy();
    const effect = this.next('write', at, from.length);
    if (effect === 'short') this.below.write(from.subarray(0, this.half(at, from.length)), at);
    if (effect !== undefined) throw this.injected(effect, 'write');
    this.below.write(from, at);
  }

  flush(): void {
    this.assertHealthy();
    const effect = this.next('flush');
    if (effect !== undefined) {
      this.failedFlush = this.injected(effect, 'flush');
      throw this.failedFlush;
    }
    this.below.flush();
  }

  resize(size: number): void {
    this.assertHealthy();
    const effect = this.next('resize');
    if (effect !== undefined) throw this.injected(effect, 'resize');
    this.below.resize(size);
  }

  discard(at: number, length: number): void {
    this.assertHealthy();
    const effect = this.next('discard');
    if (effect === 'short') this.below.discard(at, Math.floor(length / 2));
    if (effect !== undefined) throw this.injected(effect, 'discard');
    this.below.discard(at, length);
  }

  allocate(at: number, length: number): void {
    this.assertHealthy();
    const effect = this.next('allocate', at, length);
    if (effect === 'short') this.below.allocate(at, Math.floor(length / 2));
    if (effect !== undefined) throw this.injected(effect, 'allocate');
    this.below.allocate(at, length);
  }

  extent(at: number): StorageExtent {
    return this.below.extent(at);
  }

  allocated(): number {
    return this.below.allocated();
  }

  close(): void {
    this.below.close();
  }

  /** As for a real file: after one failed flush nothing is claimed to be written any more. */
  private assertHealthy(): void {
    if (this.failedFlush !== undefined) throw this.failedFlush;
  }

  private injected(effect: Effect, operation: Operation): ImgfsError {
    const reason: Reason = effect === 'io' ? 'io' : 'no-space';
    return new ImgfsError(reason, `cannot ${operation} ${this.name}: injected fault`);
  }
}
