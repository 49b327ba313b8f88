import { roundUp } from '../lib/bits.js';
import type { Storage } from '../storage/storage.js';
import type { Health } from './health.js';

/** Numbers a file end keeps. */
export const FILE_END_CELLS = 4;

const NEXT = 0;
const END = 1;
const FRESH_FROM = 2;
const STEP = 3;

/** The file is made longer by at most this at once, in bytes. */
const MAX_STEP = 64 * 1024 * 1024;

/**
 * Space at the end of a file whose length is all that says what is in use. An entry that became durable before the file
 * was long enough would lead past its end, and whoever opens it after a crash would hand the same place out again. So
 * the file is made longer ahead, and durably, before any of that is handed out; what is left is cut off at the end.
 * A crash leaves a tail that takes no space on the host.
 */
export class FileEnd {
  constructor(
    private readonly storage: Storage,
    private readonly health: Health,
    /** FILE_END_CELLS numbers that all threads share. They begin as zeros. */
    private readonly cells: Float64Array,
    /** Everything begins at a multiple of this. */
    private readonly unit: number,
  ) {}

  /** Where `length` bytes, a multiple of the unit, can go, and whether they read as zeros there, also after a crash. */
  take(length: number): { readonly offset: number; readonly fresh: boolean } {
    const { cells } = this;
    if (cells[END]! - cells[NEXT]! < length) this.reserve(length);
    const offset = cells[NEXT]!;
    cells[NEXT] = offset + length;
    return { offset, fresh: offset >= cells[FRESH_FROM]! };
  }

  /** What was taken is not used after all. It is handed out again only where nothing was taken since. */
  giveBack(offset: number, length: number): void {
    const { cells } = this;
    if (cells[NEXT] === offset + length) cells[NEXT] = offset;
    cells[FRESH_FROM] = Math.max(cells[FRESH_FROM]!, offset + length);
  }

  /** Cuts off what was not handed out. A barrier must follow before anything else is taken. */
  settle(): void {
    const { cells } = this;
    if (cells[END]! > cells[NEXT]!) this.storage.resize(cells[NEXT]!);
    cells[END] = cells[NEXT]!;
  }

  private reserve(length: number): void {
    const { cells, unit, storage } = this;
    const size = roundUp(storage.size(), unit);
    // Longer than we left it: the end is somebody's, a table's or what a failed write left.
    const next = size > cells[END]! ? size : cells[NEXT]!;
    const step = Math.min(MAX_STEP, Math.max(cells[STEP]! * 2, 4 * unit));
    const end = next + Math.max(length, roundUp(step, unit));
    storage.resize(end);
    this.health.barrier(storage);
    cells[FRESH_FROM] = Math.max(cells[FRESH_FROM]!, size > cells[END]! ? size : 0);
    cells[STEP] = step;
    cells[NEXT] = next;
    cells[END] = end;
  }
}
