/**
 * Filling a streamOptimized disk: grains are packed and written once, from front to back, each table behind its grains,
 * the directory and the footer that counts at the end.
 */
import { deflateZlib } from '../../codec/inflate.js';
import type { Health } from '../../image/health.js';
import type { Image, ImageInfo, Packing } from '../../image/image.js';
import type { Layer, Mapping } from '../../image/mapping.js';
import type { LayerWriter, Placement } from '../../image/writer.js';
import { roundDown, roundUp } from '../../lib/bits.js';
import { ImgfsError } from '../../lib/errors.js';
import { MemoryStorage } from '../../storage/memory.js';
import { readTable, type Storage } from '../../storage/storage.js';
import type { SparseShape } from './header.js';
import {
  decodeHosted,
  ENTRY_BYTES,
  encodeGrainMarker,
  encodeHosted,
  encodeMarker,
  type HostedFields,
  MARKER_BYTES,
  MARKER_TYPE,
  SECTOR,
} from './layout.js';
import { PackedGrain, Unpacker } from './stream.js';

/** Where grains begin: VMware's place, one grain behind the start. */
const OVERHEAD_SECTORS = 128;
/** Entries count sectors in 32 bits. */
const MAX_SECTOR = 2 ** 32;

export interface StreamParts {
  readonly storage: Storage;
  readonly shape: SparseShape;
  /** The disk as it was made, empty. */
  readonly layer: Layer;
  readonly health: Health;
  readonly backing: Image | undefined;
}

/** The grain that is being filled. It is packed when another one comes. */
interface OpenGrain {
  readonly number: number;
  readonly bytes: MemoryStorage;
}

/**
 * A disk that is being filled, as the guest sees it and as it is written. Only for an image that nobody else can find:
 * until a flush what is written is no image. Grains that were left out are holes. Memory holds one grain, one table and
 * the directory, however large the disk is.
 */
export class StreamWriter implements LayerWriter, Layer {
  readonly unit: number;
  readonly blockSize: number;
  readonly info: ImageInfo;
  readonly packing: Packing;
  private readonly storage: Storage;
  private readonly unpacker: Unpacker;
  private readonly directory: Buffer;
  private fields: HostedFields | undefined;
  private open: OpenGrain | undefined;
  /** Grains below this one have been dealt with. */
  private next = 0;
  /** The table of the last grain written, and its number; it is not in the file yet. */
  private readonly table: Buffer;
  private tableNumber = 0;
  /** A table in the file that was looked at. */
  private kept: { readonly sector: number; readonly bytes: Buffer } | undefined;
  /** Where the next grain or table goes. What lies behind was written by a flush. */
  private position = OVERHEAD_SECTORS * SECTOR;
  private complete = false;

  constructor(private readonly parts: StreamParts) {
    const { storage, shape, layer } = parts;
    this.storage = storage;
    this.unit = shape.grainSize;
    this.blockSize = layer.blockSize;
    this.info = layer.info;
    this.packing = { unit: shape.grainSize, method: 'zlib', always: true };
    this.unpacker = new Unpacker(storage, shape);
    this.directory = Buffer.alloc(roundUp(shape.directoryEntries * ENTRY_BYTES, SECTOR));
    this.table = Buffer.alloc(roundUp(shape.entriesPerTable * ENTRY_BYTES, SECTOR));
  }

  get size(): number {
    return this.parts.layer.size;
  }

  map(at: number, length: number): Mapping {
    const { unit, open, size } = this;
    const grain = Math.floor(at / unit);
    const within = at - grain * unit;
    const rest = Math.min(length, unit - within);
    if (open?.number === grain) {
      return { kind: 'data', length: rest, storage: open.bytes, offset: within, ours: true };
    }
    if (grain >= this.next && open === undefined) return { kind: 'hole', length };
    const place = this.placeOf(grain);
    if (place === 0) return { kind: 'hole', length: rest };
    const needed = Math.min(unit, size - grain * unit);
    return {
      kind: 'packed',
      length: rest,
      unit: new PackedGrain(place, unit, within, place, needed, this.unpacker),
    };
  }

  hostBytes(): number {
    return this.parts.layer.hostBytes();
  }

  close(): void {
    this.parts.layer.close();
  }

  get ready(): boolean {
    return this.fields !== undefined;
  }

  /** The empty tables that the disk was made with go; the header says that another one follows at the end. */
  prepare(): HostedFields {
    const { storage } = this;
    const head = Buffer.alloc(SECTOR);
    readTable(storage, head, 0, 'header');
    const made = decodeHosted(head, storage.name);
    const later = { redundant: false, redundantAt: 0, overhead: OVERHEAD_SECTORS, directoryAt: 'at-end' } as const;
    const fields = { ...made, ...later };
    storage.resize((made.descriptorAt + made.descriptorSectors) * SECTOR);
    storage.resize(OVERHEAD_SECTORS * SECTOR);
    storage.write(encodeHosted(fields), 0);
    this.fields = fields;
    return fields;
  }

  /** What is overwritten in place is only the grain in memory. */
  guard(): void {}

  allocate(at: number): Placement {
    const number = Math.floor(at / this.unit);
    this.assertAhead(number);
    const bytes = new MemoryStorage(this.storage.name, this.unit);
    return {
      start: number * this.unit,
      length: this.unit,
      storage: bytes,
      offset: 0,
      fresh: true,
      // A write that comes here may go on from the open grain, and has only now written its part of that.
      commit: () => {
        this.closeGrain();
        this.open = { number, bytes };
        this.next = number + 1;
        this.complete = false;
      },
      abandon: () => {},
    };
  }

  writePacked(packed: Uint8Array, at: number): void {
    const number = Math.floor(at / this.unit);
    if (this.open?.number === number) this.open = undefined;
    else this.assertAhead(number);
    this.closeGrain();
    this.put(number, packed);
    this.next = number + 1;
    this.complete = false;
  }

  /** Holes are zeros where nothing lies below. */
  zero(at: number, length: number): number {
    const { unit, size, parts } = this;
    const end = at + length === size ? roundUp(at + length, unit) : roundDown(at + length, unit);
    if (at % unit !== 0 || end <= at || at < (parts.backing?.size ?? 0)) return 0;
    const mapping = this.map(at, end - at);
    return mapping.kind === 'hole' ? Math.min(mapping.length, length) : 0;
  }

  publish(): void {}

  /**
   * From now on the file is an image. What is written later takes the place of what only ended it; the last grain is not
   * changed any more.
   */
  flush(): void {
    const fields = this.fields ?? this.prepare();
    if (this.complete) return;
    this.closeGrain();
    const { storage, directory } = this;
    let at = this.putTable();
    storage.write(Buffer.concat([encodeMarker(MARKER_TYPE.directory, directory.length / SECTOR), directory]), at);
    const footer = encodeHosted({ ...fields, directoryAt: at / SECTOR + 1 });
    at += SECTOR + directory.length;
    const end = Buffer.concat([encodeMarker(MARKER_TYPE.footer, 1), footer, encodeMarker(MARKER_TYPE.endOfStream, 0)]);
    storage.write(end, at);
    storage.resize(at + end.length);
    this.parts.health.barrier(storage);
    this.complete = true;
  }

  reach(): void {
    throw new ImgfsError('unsupported', `${this.storage.name}: a streamOptimized disk has one size`);
  }

  resize(): void {
    this.reach();
  }

  finish(): void {
    this.flush();
  }

  /** Where the stream of a grain lies; 0 for none. */
  private placeOf(grain: number): number {
    const { entriesPerTable } = this.parts.shape;
    const number = Math.floor(grain / entriesPerTable);
    const table =
      number === this.tableNumber ? this.table : this.tableAt(this.directory.readUInt32LE(number * ENTRY_BYTES));
    return (table?.readUInt32LE((grain % entriesPerTable) * ENTRY_BYTES) ?? 0) * SECTOR;
  }

  private tableAt(sector: number): Buffer | undefined {
    if (sector === 0) return undefined;
    if (this.kept?.sector !== sector) {
      const bytes = Buffer.alloc(this.table.length);
      readTable(this.storage, bytes, sector * SECTOR, 'grain table');
      this.kept = { sector, bytes };
    }
    return this.kept.bytes;
  }

  private assertAhead(grain: number): void {
    if (grain >= this.next) return;
    throw new ImgfsError('unsupported', `${this.storage.name}: a streamOptimized disk is written once, front to back`);
  }

  private closeGrain(): void {
    const { open, unit } = this;
    if (open === undefined) return;
    const bytes = Buffer.alloc(unit);
    open.bytes.read(bytes, 0);
    this.put(open.number, deflateZlib(bytes));
    this.open = undefined;
  }

  /** Writes a grain behind all others, and the table of those before where this one belongs to the next. */
  private put(grain: number, packed: Uint8Array): void {
    const { storage, table } = this;
    const { entriesPerTable } = this.parts.shape;
    const number = Math.floor(grain / entriesPerTable);
    if (number !== this.tableNumber) {
      this.position = this.putTable();
      table.fill(0);
      this.tableNumber = number;
    }
    const { position } = this;
    const bytes = Buffer.alloc(roundUp(MARKER_BYTES + packed.length, SECTOR));
    bytes.set(encodeGrainMarker((grain * this.unit) / SECTOR, packed.length));
    bytes.set(packed, MARKER_BYTES);
    if (position / SECTOR >= MAX_SECTOR) throw new ImgfsError('limit', `${storage.name}: the file would be too large`);
    storage.write(bytes, position);
    table.writeUInt32LE(position / SECTOR, (grain % entriesPerTable) * ENTRY_BYTES);
    this.position = position + bytes.length;
  }

  /** Writes the table behind the grains, if it leads to any, and returns where it ends. */
  private putTable(): number {
    const { storage, table, position } = this;
    if (table.every((byte) => byte === 0)) return position;
    storage.write(Buffer.concat([encodeMarker(MARKER_TYPE.table, table.length / SECTOR), table]), position);
    this.directory.writeUInt32LE(position / SECTOR + 1, this.tableNumber * ENTRY_BYTES);
    return position + SECTOR + table.length;
  }
}
