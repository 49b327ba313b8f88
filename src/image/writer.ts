import type { Storage } from '../storage/storage.js';
import type { NamedFile, Packing, Preallocation, Snapshot, SnapshotFacts } from './image.js';

/**
 * Where the first bytes of a range can be written that cannot be overwritten where they lie now: whole units of the
 * format (clusters, grains), one run on the host. Until `commit` the guest disk is unchanged.
 */
export interface Placement {
  /** Guest range: begins at or before the place asked for, ends after at least one of the bytes asked for. */
  readonly start: number;
  readonly length: number;
  /** Where `start` goes. */
  readonly storage: Storage;
  readonly offset: number;
  /** The host range was never used in this file: what is not written there reads as zeros, also after a crash. */
  readonly fresh: boolean;
  /**
   * Makes the guest range lie here. Called after its bytes were written. `barrier` says that they must be durable
   * before any table points at them, because old content was copied along or replaced, or the host range held
   * something else: the driver then keeps the mapping pending and publishes it, with others, after one flush.
   * When it throws, the run was given back or set aside already: `abandon` is not called then.
   */
  commit(barrier: boolean): void;
  /** Gives the run back: writing there failed. */
  abandon(): void;
}

/**
 * What a driver adds to a layer that can be written. Bytes that already lie in the layer's own space are not its
 * business: mappings marked `ours` are overwritten in place. Every method but `guard` is called under the exclusive
 * lock where an image is shared between threads. All throw ImgfsError (`no-space`, `io`, `corrupt`), leaving tables
 * as they were.
 */
export interface LayerWriter {
  /** What `zero` works in; divides the layer's block size. */
  readonly unit: number;
  /** Whether `prepare` was called, by any thread. Until then nothing is overwritten in place either. */
  readonly ready: boolean;
  /** The ways to preallocate what a disk gains, besides `off`; none by default. */
  readonly preallocations?: readonly Preallocation[];
  /** Called before the first change of anything: ends what only holds while nobody writes. A look never calls it. */
  prepare(): void;
  /** Called before bytes are overwritten in place. Throws `corrupt` where they would land on one of the tables. */
  guard(storage: Storage, offset: number, length: number): void;
  /** Space for the range, or for its first part. Refcounts or counters of it are durable when it is handed out. */
  allocate(at: number, length: number): Placement;
  /**
   * Makes whole units at the start of the range read as zeros without writing zeros, and returns how many bytes were
   * done: 0 where the range begins inside a unit or holds no whole one. `unmap` also gives their space back.
   */
  zero(at: number, length: number, options: { readonly unmap: boolean }): number;
  /** How units can be stored packed, together with `writePacked`; absent where they cannot. */
  readonly packing?: Packing | undefined;
  /** Stores the unit at `at`, packed, in place of what is there. The guest sees it on return. */
  writePacked?(packed: Uint8Array, at: number): void;
  /** Publishes what is pending, where something is. What it may cost is bounded, so it is called once a second. */
  publish(): void;
  /** Publishes what is pending and returns when everything written before is durable. */
  flush(): void;
  /**
   * Makes the tables large enough for a disk of `size` bytes without changing its size, so that what lies between
   * can be made to read as zeros first. Also the first check that the format can have that size.
   */
  reach(size: number): void;
  /**
   * Changes the guest size; durable on return. Never beyond what `reach` was called for. What a larger disk gains is
   * preallocated, in one of the ways above, before the size says that it is there.
   */
  resize(size: number, preallocation: Preallocation): void;
  /** As `Image.empty`; nothing is pending, all is durable. Left out where the format cannot. */
  readonly empty?: (() => void) | undefined;
  /** As `Image.changeBacking`; perhaps the first that is called. Left out where the format cannot. */
  readonly changeBacking?: ((backing: NamedFile | undefined) => void) | undefined;
  /** The last call: publishes what is pending, gives back what was reserved, and flushes. */
  finish(): void;
  readonly snapshots?: SnapshotWriter;
}

/** Changing a format's internal snapshots. All or nothing, also across a crash; durable on return. */
export interface SnapshotWriter {
  create(name: Uint8Array, as: SnapshotFacts): Snapshot;
  delete(id: string): void;
  /** Makes the disk what it was, size included. What was written since is lost. */
  apply(id: string): void;
  rename(id: string, name: Uint8Array): void;
}
