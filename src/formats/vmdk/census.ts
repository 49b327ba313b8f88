/** Every grain table of one extent and every grain it leads to, looked at once. */

import type { Table } from '../../image/table-cache.js';
import { asBuffer, BitPages } from '../../lib/bits.js';
import { ImgfsError } from '../../lib/errors.js';
import { readPadded, readTable } from '../../storage/storage.js';
import { decodeMarker, HEADER_BYTES, MARKER_BYTES, SECTOR } from './layout.js';
import { Places } from './places.js';
import type { SparseExtent } from './sparse.js';
import { MAX_PACKED } from './stream.js';
import type { GrainTable } from './tables.js';

/** What finding the tables takes of the whole, about: each has many times as many bytes as its entry. */
const PLACING = 0.1;

/** What is found, summed up over the extents of a disk. */
export interface Findings {
  corruptions: number;
  /** Grain tables whose copy differs, directory entries without a sound copy. */
  stale: number;
  checkErrors: number;
  allocated: number;
  fragmented: number;
  packed: number;
  total: number;
  /** Where the last grain or table ends. */
  end: number;
}

export class GrainCensus {
  private readonly used = new BitPages();
  /** Host offsets of grains that are not in step with the first one. */
  private readonly odd = new Set<number>();
  private readonly places = new Places();
  private phase: number | undefined;
  private previous = Number.NaN;

  constructor(
    private readonly extent: SparseExtent,
    private readonly tell: (finding: string) => void,
    private readonly sum: Findings,
  ) {}

  /** Says after each table how far it has come, from 0 to 1: places are looked at first, then what lies there. */
  *take(): Generator<number> {
    const { extent, sum } = this;
    const { tables, shape } = extent;
    sum.total += Math.ceil(extent.size / extent.grainSize);
    this.fixed();
    if (shape.damaged) {
      this.say('one of the two grain directories does not lie in the file');
      sum.corruptions++;
    }
    const count = Math.ceil(extent.size / extent.span);
    const sound: (GrainTable | undefined)[] = [];
    for (let n = 0; n < count; n++) {
      yield (n / count) * PLACING;
      const found = this.tried(() => tables.find(n));
      sound.push(found);
      if (found === undefined) continue;
      this.place(found.table);
      if (found.copy !== undefined) this.place(found.copy);
    }
    for (const [n, found] of sound.entries()) {
      yield PLACING + (n / count) * (1 - PLACING);
      if (found === undefined) continue;
      if (found.damaged && !shape.damaged) {
        this.say(`one of the two copies of grain table ${n} is lost`);
        sum.corruptions++;
      }
      this.tried(() => this.table(n, found.table, found.copy));
    }
  }

  /** Header, descriptor and directories. */
  private fixed(): void {
    const { shape, tables } = this.extent;
    this.places.add(0, HEADER_BYTES[shape.kind]);
    if (shape.descriptor !== undefined) this.places.add(shape.descriptor.at, shape.descriptor.length);
    for (const directory of [tables.directory, tables.redundant]) if (directory !== undefined) this.place(directory);
  }

  private place(table: Table): void {
    if (this.places.touches(table.at, table.bytes)) {
      this.say(`the ${table.what} at ${table.at} lies on another table`);
      this.sum.corruptions++;
    }
    this.places.add(table.at, table.bytes);
    this.sum.end = Math.max(this.sum.end, table.at + table.bytes);
  }

  private table(n: number, table: Table, copy: Table | undefined): void {
    const { extent } = this;
    const { entryBytes } = extent.shape;
    const bytes = asBuffer(new Uint8Array(table.bytes));
    readTable(table.storage, bytes, table.at, table.what);
    if (copy !== undefined && !holds(copy, bytes)) {
      this.tell(`Leaked: ${extent.storage.name}: the second copy of grain table ${n} differs from the first`);
      this.sum.stale++;
    }
    const first = (n * extent.span) / extent.grainSize;
    const count = Math.min(bytes.length / entryBytes, Math.ceil(extent.size / extent.grainSize) - first);
    for (let i = 0; i < count; i++) this.grain(first + i, extent.entry(bytes, i * entryBytes));
  }

  private grain(number: number, grain: ReturnType<SparseExtent['entry']>): void {
    const { extent, sum } = this;
    if (grain === undefined) this.wrong(number, 'has an invalid entry');
    if (typeof grain !== 'number') return;
    if (grain >= extent.storage.size()) {
      this.wrong(number, `at ${grain} lies past the end of the file`);
      return;
    }
    const length = extent.shape.compressed ? this.packed(number, grain) : extent.grainSize;
    if (length === undefined) return;
    if (this.places.touches(grain, length)) this.wrong(number, `at ${grain} lies on a table`);
    if (this.isTaken(grain)) this.wrong(number, `at ${grain} lies on another grain`);
    sum.allocated++;
    if (grain !== this.previous && !Number.isNaN(this.previous)) sum.fragmented++;
    this.previous = grain + length;
    sum.end = Math.max(sum.end, grain + length);
  }

  private wrong(number: number, what: string): void {
    this.say(`grain ${number} ${what}`);
    this.sum.corruptions++;
  }

  /** Bytes of a compressed grain with its marker, or undefined where the marker is no good. */
  private packed(number: number, at: number): number | undefined {
    const { extent, sum } = this;
    sum.packed++;
    if (!extent.shape.markers) return SECTOR;
    const bytes = asBuffer(new Uint8Array(SECTOR));
    readPadded(extent.storage, bytes, at);
    const marker = readable(() => decodeMarker(bytes, extent.storage.name));
    if (marker?.value !== (number * extent.grainSize) / SECTOR) {
      this.wrong(number, `at ${at} has the marker of another grain`);
    }
    if (marker === undefined || marker.size === 0 || marker.size > extent.grainSize * MAX_PACKED) {
      this.wrong(number, `at ${at} has a marker without a size that can be`);
      return undefined;
    }
    return MARKER_BYTES + marker.size;
  }

  /** Whether another grain lies there; from now on this one does. Compressed ones are told by where they begin. */
  private isTaken(at: number): boolean {
    const unit = this.extent.shape.compressed ? SECTOR : this.extent.grainSize;
    this.phase ??= at % unit;
    const cell = (at - this.phase) / unit;
    if (Number.isInteger(cell) && cell >= 0) {
      const taken = this.used.has(cell) || [...this.odd].some((other) => Math.abs(other - at) < unit);
      this.used.add(cell);
      return taken;
    }
    const before = Math.max(0, Math.floor(cell));
    const taken =
      this.used.has(before) || this.used.has(before + 1) || [...this.odd].some((other) => Math.abs(other - at) < unit);
    this.odd.add(at);
    return taken;
  }

  /** A table that cannot be had is a corruption; what the host refuses is not ours to judge. */
  private tried<T>(action: () => T): T | undefined {
    try {
      return action();
    } catch (error) {
      if (!(error instanceof ImgfsError)) throw error;
      this.say(error.message);
      if (error.reason === 'corrupt' || error.reason === 'truncated') this.sum.corruptions++;
      else this.sum.checkErrors++;
      return undefined;
    }
  }

  private say(what: string): void {
    this.tell(`ERROR: ${this.extent.storage.name}: ${what}`);
  }
}

/** Whether the table holds exactly these bytes. */
export function holds(table: Table, expected: Buffer): boolean {
  const bytes = asBuffer(new Uint8Array(table.bytes));
  readPadded(table.storage, bytes, table.at);
  return bytes.equals(expected);
}

function readable<T>(action: () => T): T | undefined {
  try {
    return action();
  } catch (error) {
    if (error instanceof ImgfsError) return undefined;
    throw error;
  }
}
