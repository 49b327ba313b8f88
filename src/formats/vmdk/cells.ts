/** What threads that write the same disk must agree on beyond its tables. */
import { FILE_END_CELLS } from '../../image/file-end.js';
import { CELLS } from '../../image/sharing.js';
import { UNIT_CELL } from '../../image/units.js';

/** Of the driver's cells, those of the disk. Zero means: as when it was opened. */
export const CELL = { size: 0, directoryAt: 1, redundantAt: 2, directoryEntries: 3, cid: 4, extents: 8 } as const;

/** Of each extent: its file end, then how far its header says that the file is used. */
const EXTENT_CELLS = FILE_END_CELLS + 1;

/** More extents than this are only read. */
export const MAX_WRITTEN_EXTENTS = Math.floor((CELLS - UNIT_CELL.driver - CELL.extents) / EXTENT_CELLS);

/** The cells of extent number `n`. */
export function extentCells(cells: Float64Array, n: number): Float64Array {
  const at = CELL.extents + n * EXTENT_CELLS;
  return cells.subarray(at, at + EXTENT_CELLS);
}

/** Where in an extent's cells it stands how far the header says that the file is used. */
export const ANNOUNCED = FILE_END_CELLS;

/** What changes of a disk while it is open. */
export class Live {
  constructor(
    readonly cells: Float64Array,
    private readonly opened: { readonly size: number; readonly cid: number },
  ) {}

  get size(): number {
    return this.cells[CELL.size]! || this.opened.size;
  }

  /** The disk has another size; zero is never one that it changes to. */
  set size(size: number) {
    this.cells[CELL.size] = size;
  }

  get cid(): number {
    const changed = this.cells[CELL.cid]!;
    return changed === 0 ? this.opened.cid : changed - 1;
  }

  set cid(cid: number) {
    this.cells[CELL.cid] = cid + 1;
  }
}
