import { FILE_END_CELLS, FileEnd } from '../../image/file-end.js';
import type { NamedFile } from '../../image/image.js';
import { rewrite } from '../../image/rewrite.js';
import { driverCells, type PackedUnits, type Space, type UnitRun, type UnitTables } from '../../image/units.js';
import { roundDown, roundUp } from '../../lib/bits.js';
import { corrupt, ImgfsError } from '../../lib/errors.js';
import { readTable, type Storage } from '../../storage/storage.js';
import { geometryOf } from './header.js';
import {
  BOUNDS,
  ENTRY_BYTES,
  encodeEntries,
  encodeHeader,
  encodePackedEntry,
  HEADER_BYTES,
  type HeaderFields,
  SECTOR,
} from './layout.js';
import { PACKED_CELLS, PackedClusters } from './packed-clusters.js';
import { PLACES_CELLS, TablePlaces } from './table-places.js';
import type { Volume } from './volume.js';

/** How much of a table is copied at once. */
const COPY_BYTES = 1024 * 1024;
/** How much of L1 is made zeros at once. */
const CLEARED_BYTES = 64 * 1024;

/**
 * The tables as they are written. All new space is at the end of the file, whose length is the only record of what is
 * in use. What compressed clusters and a moved L1 leave behind is lost: the format has no way to hand it out again.
 */
export class QcowTables implements UnitTables {
  readonly unit: number;
  readonly storages: readonly Storage[];
  private readonly end: FileEnd;
  private readonly places: TablePlaces;
  private readonly packedClusters: PackedClusters;

  constructor(
    private readonly volume: Volume,
    /** Shared by all threads. */
    cells: Float64Array,
  ) {
    const { storage, health, header } = volume;
    this.unit = header.clusterSize;
    this.storages = [storage];
    const own = driverCells(cells);
    this.end = new FileEnd(storage, health, own.subarray(0, FILE_END_CELLS), this.unit);
    this.places = new TablePlaces(volume, own.subarray(FILE_END_CELLS, FILE_END_CELLS + PLACES_CELLS));
    const behind = own.subarray(FILE_END_CELLS + PLACES_CELLS, FILE_END_CELLS + PLACES_CELLS + PACKED_CELLS);
    this.packedClusters = new PackedClusters(volume, this.end, behind, (start) => this.tableFor(start));
  }

  /** Nothing encrypted is compressed. */
  get packed(): PackedUnits | undefined {
    return this.volume.header.encryption === undefined ? this.packedClusters : undefined;
  }

  unitAt(at: number): { readonly start: number; readonly length: number } {
    return { start: at - (at % this.unit), length: this.unit };
  }

  holdsTable(_storage: Storage, offset: number, length: number): boolean {
    return this.places.holds(offset, length);
  }

  prepare(): void {}

  /** Within one L2 table, which is there on return. */
  take(start: number, length: number): Space {
    const { tableSpan } = this.volume.header;
    const index = this.tableFor(start);
    const own = Math.min(length, (index + 1) * tableSpan - start);
    return { storage: this.volume.storage, length: own, ...this.end.take(own) };
  }

  giveBack({ offset, length }: Space): void {
    this.end.giveBack(offset, length);
  }

  content({ start, offset }: UnitRun): Storage {
    return this.volume.content(start, offset);
  }

  enter(runs: readonly UnitRun[]): void {
    const { cache, header } = this.volume;
    const { tableSpan, l2Entries } = header;
    for (const { start, length, offset, packed } of runs) {
      for (let done = 0; done < length; ) {
        const index = Math.floor((start + done) / tableSpan);
        const first = (start + done - index * tableSpan) / this.unit;
        const count = Math.min((length - done) / this.unit, l2Entries - first);
        const table = this.volume.l2At(this.volume.l2Offset(index));
        const entries =
          packed === undefined
            ? encodeEntries(offset + done, count, this.unit)
            : encodePackedEntry({ offset, length: packed }, header.clusterBits);
        cache.write(table, first * ENTRY_BYTES, entries);
        done += count * this.unit;
      }
    }
  }

  /** Makes L1 long enough: where it is if its last sector has room, else by moving it, with one write of the header. */
  reach(size: number): void {
    const { volume } = this;
    const { header, l1, limits } = volume;
    if (size > limits.virtualSize) {
      throw new ImgfsError(
        'limit',
        `${volume.storage.name}: a disk of ${size} bytes, the limit is ${limits.virtualSize}`,
      );
    }
    this.assertEnd();
    const entries = Math.ceil(size / header.tableSpan);
    if (entries <= l1.entries) return;
    if (this.hasRoom(entries)) volume.adopt(header, entries);
    else this.moveL1(entries);
  }

  resize(size: number): void {
    const { storage, header, l1 } = this.volume;
    if (size < header.size) {
      throw new ImgfsError('unsupported', `${storage.name}: qcow images cannot be made smaller`, {
        hint: 'copy the disk to a smaller image',
      });
    }
    this.replaceHeader({ ...header.fields, size }, l1.entries);
  }

  /** Without entries in L1 no table and no cluster is anybody's; whatever part of them is left reads the same. */
  empty(barrier: () => void): void {
    const { volume } = this;
    const { l1, cache, storage } = volume;
    const used = new Set([...volume.tables()].map(({ index }) => roundDown(index * ENTRY_BYTES, CLEARED_BYTES)));
    for (const at of used) cache.write(l1, at, new Uint8Array(Math.min(CLEARED_BYTES, l1.bytes - at)));
    barrier();
    this.packedClusters.close();
    this.end.settle();
    const { backing } = volume.header;
    const end = Math.max(HEADER_BYTES, l1.at + roundUp(l1.bytes, SECTOR), (backing?.at ?? 0) + (backing?.bytes ?? 0));
    if (end < storage.size()) storage.resize(end);
    cache.clear();
  }

  /** The name goes where nothing is, then one sector says where that is. The format cannot be stored. */
  changeBacking(backing: NamedFile | undefined): void {
    const { storage, health, header, l1 } = this.volume;
    if (backing?.format !== undefined) {
      throw new ImgfsError(
        'unsupported',
        `${storage.name}: qcow images do not store the format of what lies below them`,
      );
    }
    const name = Buffer.from(backing?.name ?? '');
    if (name.length > BOUNDS.backingNameBytes) {
      throw new ImgfsError('limit', `${storage.name}: the name of its backing file is longer than 1023 bytes`);
    }
    const at = backing === undefined ? 0 : this.end.take(roundUp(name.length, this.unit)).offset;
    if (backing !== undefined) {
      storage.write(name, at);
      health.barrier(storage);
    }
    this.replaceHeader({ ...header.fields, backingAt: at, backingBytes: name.length }, l1.entries);
    const place = backing && { name: backing.name, at, bytes: name.length };
    this.volume.adopt({ ...this.volume.header, backing: place }, l1.entries);
  }

  settle(): void {
    this.packedClusters.close();
    this.end.settle();
  }

  /** The number of the L2 table for a guest offset, which is there on return. */
  private tableFor(start: number): number {
    const index = Math.floor(start / this.volume.header.tableSpan);
    if (this.volume.l2Offset(index) === 0) this.addTable(index);
    return index;
  }

  /**
   * An empty L2 table, and the L1 entry that leads to it. Where the place reads as zeros, also after a crash, it is
   * one; else it is made one, durably, first.
   */
  private addTable(index: number): void {
    const { volume, end } = this;
    const { storage, l1, l2Bytes, cache, health } = volume;
    const bytes = roundUp(l2Bytes, this.unit);
    const { offset, fresh } = end.take(bytes);
    try {
      if (!fresh) {
        storage.write(new Uint8Array(bytes), offset);
        health.barrier(storage);
      }
      cache.write(l1, index * ENTRY_BYTES, encodeEntries(offset, 1, this.unit));
    } catch (error) {
      end.giveBack(offset, bytes);
      throw error;
    }
    this.places.add(offset);
  }

  /** What lies behind the end of the disk would become part of it: no entry may lead anywhere. */
  private assertEnd(): void {
    const { volume } = this;
    const { size, tableSpan, l2Entries, l1Entries } = volume.header;
    const first = Math.ceil(size / this.unit) - (l1Entries - 1) * l2Entries;
    const table = volume.l2Offset(Math.ceil(size / tableSpan) - 1);
    if (table === 0) return;
    if (
      volume
        .l2(table)
        .bytes.subarray(first * ENTRY_BYTES)
        .every((byte) => byte === 0)
    )
      return;
    throw corrupt(`${volume.storage.name}: its last table leads to clusters behind the end of the disk`);
  }

  /** Zeros up to the end of L1's last sector are nobody's: clusters begin at sectors, streams and names are not zeros. */
  private hasRoom(entries: number): boolean {
    const { storage, l1 } = this.volume;
    const [at, end] = [l1.at + l1.bytes, l1.at + entries * ENTRY_BYTES];
    if (end > roundUp(at, SECTOR) || end > storage.size() || this.places.holdsL2(at, end - at)) return false;
    const between = new Uint8Array(end - at);
    readTable(storage, between, at, 'L1 table');
    return between.every((byte) => byte === 0);
  }

  private moveL1(entries: number): void {
    const { volume, end } = this;
    const { storage, l1, health, header } = volume;
    const bytes = roundUp(entries * ENTRY_BYTES, this.unit);
    const { offset, fresh } = end.take(bytes);
    for (let done = 0; done < bytes && (done < l1.bytes || !fresh); done += COPY_BYTES) {
      const step = new Uint8Array(Math.min(COPY_BYTES, bytes - done));
      if (done < l1.bytes) readTable(storage, step.subarray(0, l1.bytes - done), l1.at + done, l1.what);
      storage.write(step, offset + done);
    }
    health.barrier(storage);
    this.replaceHeader({ ...header.fields, l1At: offset }, entries);
    health.barrier(storage);
  }

  /** The whole header lies in one sector: it is the old one or the new one. */
  private replaceHeader(fields: HeaderFields, l1Entries: number): void {
    const { storage, health, header } = this.volume;
    rewrite(storage, { at: 0, bytes: encodeHeader(fields), old: encodeHeader(header.fields) }, health);
    this.volume.adopt({ ...header, ...geometryOf(fields) }, l1Entries);
  }
}
