/**
 * Formats whose guest disk is cut in units (blocks, grains, clusters, sectors) of which each is either absent, and then
 * reads as what lies below, or has one place on the host, where it stays: what their drivers provide so that
 * `UnitWriter` can write them. One table entry leads to each unit, perhaps in two copies, perhaps a single bit. Only what
 * is stored packed gets another place when it is replaced.
 */
import type { PackMethod } from '../codec/pack.js';
import type { Storage } from '../storage/storage.js';
import type { NamedFile } from './image.js';
import type { PackedUnit } from './mapping.js';
import { CELLS, type Sharing } from './sharing.js';

/** Whole units that follow each other in the guest and on the host, or one unit that is stored packed. */
export interface UnitRun {
  /** Guest offset of the first unit. */
  readonly start: number;
  /** Guest bytes; the last unit may reach past the end of the disk. */
  readonly length: number;
  readonly storage: Storage;
  /** Where the first unit's bytes begin. */
  readonly offset: number;
  /** Bytes of the one unit that is packed; undefined where they are as they are. */
  readonly packed?: number | undefined;
}

/** How a format stores single units packed, in space of any length. */
export interface PackedUnits {
  readonly method: PackMethod;
  /** As `UnitTables.take`: `bytes` bytes for the unit at `start`. What was there before, if anything was, is given up. */
  take(start: number, bytes: number): Space;
  giveBack(space: Space): void;
  /** A unit that lies in the run, as readers have it; `skip` is where in it they begin. */
  unit(run: UnitRun, skip: number): PackedUnit;
}

/** Host space that no unit has. */
export interface Space {
  readonly storage: Storage;
  readonly offset: number;
  /** Whole units, unless it is for a packed one. */
  readonly length: number;
  /**
   * Reads as zeros where nothing is written, also after a crash: the entry may then become durable before the data.
   * Only true where neither lets anybody hand the space out again: a counter in the file says that it is taken, or the
   * file was made long enough (`FileEnd`), durably, before.
   */
  readonly fresh: boolean;
}

/**
 * The tables of one opened image, as its writer uses them. All but `holdsTable` are called under the exclusive lock
 * where threads share the image; what is not a table of the file but must be known to all of them (the next free
 * place, what is reserved) lies in `driverCells`. They throw ImgfsError.
 */
export interface UnitTables {
  /** What `zero` works in: the size of most units. */
  readonly unit: number;
  /** Every storage that is written. Each is flushed by a flush, in this order. */
  readonly storages: readonly Storage[];
  /** The guest range of the unit that holds `at`. It may begin or end anywhere; units tile the disk. */
  unitAt(at: number): { readonly start: number; readonly length: number };
  /** Whether part of the host range holds anything but guest data: header, tables. Runs for every write. */
  holdsTable(storage: Storage, offset: number, length: number): boolean;
  /** Once before the first change of anything: ends what only holds while nobody writes. Durable on return. */
  prepare(): void;
  /**
   * Space for the first of the units that make up `length` guest bytes from `start` on, none of which has any: one run
   * on the host. What must be durable before an entry may lead there (a counter, a new table) is on return.
   */
  take(start: number, length: number): Space;
  /** Writing to the space failed; no entry leads there. Perhaps something was written. Must not throw. */
  giveBack(space: Space): void;
  /**
   * What the guest's bytes of that run go through, at the run's own offset, where they are not stored as they are
   * (encrypted): it ends in the run's storage. By default that storage itself.
   */
  content?(run: UnitRun): Storage;
  /**
   * Writes the entries of units that are in their place, in every copy. When it throws, some may be written; all of
   * them will be entered again. A table that could not be written whole is put back (`rewrite`).
   */
  enter(runs: readonly UnitRun[]): void;
  /** Left out where the format, or this image, has no packed units. */
  readonly packed?: PackedUnits | undefined;
  /**
   * Makes absent units at the start of the range (whole units) read as zeros by their entries, though something else
   * lies below, and returns how many bytes were done. Left out where the format has no such entry.
   */
  enterZeros?(start: number, length: number): number;
  /**
   * Makes the tables large enough for a disk of `size` bytes, without changing its size; nothing is pending. Throws
   * `unsupported`, `limit`.
   */
  reach(size: number): void;
  /** Changes the guest size. Nothing is pending, all is durable. A barrier follows. */
  resize(size: number): void;
  /**
   * Makes all units absent, calls `barrier`, and then gives back their space; nothing is pending. A barrier follows.
   * Left out where the format cannot.
   */
  empty?(barrier: () => void): void;
  /** As `Image.changeBacking`; nothing is pending. A barrier follows. Left out where the format cannot. */
  changeBacking?(backing: NamedFile | undefined): void;
  /** The image is closed: gives back what was reserved ahead. All entries are durable; a barrier follows. */
  settle(): void;
}

/** Where the numbers shared by threads lie: the writer's own, then the driver's. */
export const UNIT_CELL = { started: 0, pendingCount: 1, pending: 16, driver: 1296 } as const;

/** The numbers all threads share; a thread alone has them to itself. */
export function unitCells(sharing: Sharing | undefined): Float64Array {
  return sharing?.cells ?? new Float64Array(CELLS);
}

/** The driver's part of them: about 3,000 numbers that begin as zeros, touched only under the exclusive lock. */
export function driverCells(cells: Float64Array): Float64Array {
  return cells.subarray(UNIT_CELL.driver);
}
