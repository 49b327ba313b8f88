/**
 * A toy format cut in units, with what real ones have between them: a table in two copies, an entry for zeros, units
 * handed out at the end of the file, and (as a mistake) entries that are written before their data.
 */

import { FileEnd } from '../../src/image/file-end.js';
import type { ImageFormat, OpenContext } from '../../src/image/format.js';
import { Health } from '../../src/image/health.js';
import type { Image, ImageInfo } from '../../src/image/image.js';
import { type Layer, MappedImage, type Mapping } from '../../src/image/mapping.js';
import { ALONE } from '../../src/image/sharing.js';
import { type Table, TableCache } from '../../src/image/table-cache.js';
import { writableUnits } from '../../src/image/unit-writer.js';
import { driverCells, type Space, type UnitRun, type UnitTables, unitCells } from '../../src/image/units.js';
import type { Storage } from '../../src/storage/storage.js';
import type { StructureCheck } from '../crash/structure.js';

export const UNIT = 1024;
/** Units of a disk; it ends inside its last one. */
const UNITS = 200;
export const TOY_SIZE = sizeOf(UNITS);
const TABLES = [512, 4096] as const;
export const DATA_AT = 8192;
const ZERO = 1;
const PIECE = 512;

const INFO: ImageInfo = { format: 'toy', dirty: false, encrypted: false, compressed: false };

/** Guest bytes of a disk of so many units. */
export function sizeOf(units: number): number {
  return units * UNIT - 512;
}

/** An empty image. */
export function emptyToy(): Uint8Array {
  return Buffer.alloc(DATA_AT);
}

/** The format; `base` names a raw image that lies below. */
export function toyUnits(base?: string, units = UNITS): ImageFormat {
  return {
    kind: 'image',
    name: 'toy',
    summary: 'for tests',
    extensions: [],
    can: { write: true, create: false, snapshots: false, resize: false },
    probe: () => false,
    open: (storage, context) => openToy(storage, context, base, units),
  };
}

/** No unit of the host used twice, both copies equal, unless the second one merely lags behind. */
export const checkToy: StructureCheck = (_rig, [image]) => {
  if (image === undefined) return { corruptions: ['no image'], leakedBytes: 0 };
  const entries = Buffer.alloc(UNITS * 4);
  image.read(entries, TABLES[0]);
  const used = Array.from({ length: UNITS }, (_, n) => entries.readUInt32LE(n * 4)).filter((entry) => entry > ZERO);
  const twice = used.filter((entry, n) => used.indexOf(entry) !== n);
  return { corruptions: twice.map((entry) => `${entry} is used twice`), leakedBytes: 0 };
};

function openToy(storage: Storage, context: OpenContext, base: string | undefined, units: number): Image {
  const { sharing, limits } = context;
  const health = new Health(sharing);
  const cache = new TableCache(PIECE, limits.cacheBytes, sharing ?? ALONE, health);
  const end = new FileEnd(storage, health, driverCells(unitCells(sharing)), UNIT);
  const tables = new ToyTables(storage, cache, end, units);
  const backing = base === undefined ? undefined : context.openImage({ role: 'backing', name: base, format: 'raw' });
  const { unpackedBytes } = limits;
  if (!context.writable) return new MappedImage({ layer: tables, backing, unpackedBytes });
  return new MappedImage({
    ...writableUnits({ tables, layer: tables, health, sharing, backing }),
    backing,
    unpackedBytes,
  });
}

class ToyTables implements UnitTables, Layer {
  readonly size: number;
  readonly blockSize = UNIT;
  readonly unit = UNIT;
  readonly info = INFO;
  readonly storages: readonly Storage[];
  private readonly copies: readonly Table[];

  constructor(
    private readonly storage: Storage,
    private readonly cache: TableCache,
    private readonly end: FileEnd,
    units: number,
  ) {
    this.size = sizeOf(units);
    this.storages = [storage];
    this.copies = TABLES.map((at) => ({ storage, file: 0, at, bytes: units * 4, what: 'toy table' }));
  }

  map(at: number, length: number): Mapping {
    const within = at % UNIT;
    const entry = this.entry((at - within) / UNIT);
    const run = Math.min(length, UNIT - within);
    if (entry === 0) return { kind: 'hole', length: run };
    if (entry === ZERO) return { kind: 'zero', length: run };
    return { kind: 'data', length: run, storage: this.storage, offset: entry + within, ours: true };
  }

  unitAt(at: number): { readonly start: number; readonly length: number } {
    return { start: at - (at % UNIT), length: UNIT };
  }

  holdsTable(_storage: Storage, offset: number): boolean {
    return offset < DATA_AT;
  }

  prepare(): void {}

  take(_start: number, length: number): Space {
    return { storage: this.storage, length, ...this.end.take(length) };
  }

  giveBack({ offset, length }: Space): void {
    this.end.giveBack(offset, length);
  }

  enter(runs: readonly UnitRun[]): void {
    for (const { start, length, offset } of runs) {
      const entries = Buffer.alloc((length / UNIT) * 4);
      for (let n = 0; n < length / UNIT; n++) entries.writeUInt32LE(offset + n * UNIT, n * 4);
      this.set(start / UNIT, entries);
    }
  }

  enterZeros(start: number, length: number): number {
    const entries = Buffer.alloc((length / UNIT) * 4);
    for (let n = 0; n < length / UNIT; n++) entries.writeUInt32LE(ZERO, n * 4);
    this.set(start / UNIT, entries);
    return length;
  }

  reach(): void {}

  resize(): void {}

  settle(): void {
    this.end.settle();
  }

  hostBytes(): number {
    return this.storage.allocated();
  }

  close(): void {
    this.storage.close();
  }

  private entry(unit: number): number {
    const piece = this.cache.piece(this.copies[0]!, unit * 4);
    return piece.bytes.readUInt32LE(unit * 4 - piece.from);
  }

  private set(unit: number, entries: Buffer): void {
    for (const copy of this.copies) this.cache.write(copy, unit * 4, entries);
  }
}
