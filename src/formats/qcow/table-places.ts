import { BitPages } from '../../lib/bits.js';
import { HEADER_BYTES, SECTOR } from './layout.js';
import type { Volume } from './volume.js';

/** Numbers that threads share: how many L2 tables were added, and the places of the last ones. */
export const PLACES_CELLS = 65;
const COUNT = 0;
const LATEST = 1;
const KEPT = PLACES_CELLS - LATEST;

/**
 * Where an image's structures lie: the last defence of a damaged image, whose tables may lead guest data onto them.
 * All of L1 is looked through at the first question, which is before the first write; then only what is added.
 */
export class TablePlaces {
  /** Sectors of L2 tables. They never move. */
  private known: BitPages | undefined;
  private seen = 0;

  constructor(
    private readonly volume: Volume,
    /** PLACES_CELLS numbers that all threads share. */
    private readonly cells: Float64Array,
  ) {}

  /** Whether part of the range is header, the backing file's name, L1 or an L2 table. */
  holds(offset: number, length: number): boolean {
    const { header, l1 } = this.volume;
    const own = [{ at: 0, bytes: HEADER_BYTES }, l1, ...(header.backing === undefined ? [] : [header.backing])];
    return own.some(({ at, bytes }) => offset < at + bytes && at < offset + length) || this.holdsL2(offset, length);
  }

  /** Whether part of the range shares a sector with an L2 table. */
  holdsL2(offset: number, length: number): boolean {
    const known = this.catchUp();
    const last = Math.floor((offset + length - 1) / SECTOR);
    for (let sector = Math.floor(offset / SECTOR); sector <= last; sector++) if (known.has(sector)) return true;
    return false;
  }

  /** There is an L2 table at `at` now. */
  add(at: number): void {
    const { cells } = this;
    cells[LATEST + (cells[COUNT]! % KEPT)] = at;
    cells[COUNT] = cells[COUNT]! + 1;
  }

  private catchUp(): BitPages {
    const { cells } = this;
    const count = cells[COUNT]!;
    let { known } = this;
    if (known === undefined || count - this.seen > KEPT) known = this.lookThrough();
    else for (let n = this.seen; n < count; n++) this.mark(known, cells[LATEST + (n % KEPT)]!);
    this.known = known;
    this.seen = count;
    return known;
  }

  private lookThrough(): BitPages {
    const found = new BitPages();
    for (const { offset } of this.volume.tables()) if (!Number.isNaN(offset)) this.mark(found, offset);
    return found;
  }

  private mark(known: BitPages, at: number): void {
    const last = Math.floor((at + this.volume.l2Bytes - 1) / SECTOR);
    for (let sector = Math.floor(at / SECTOR); sector <= last; sector++) known.add(sector);
  }
}
