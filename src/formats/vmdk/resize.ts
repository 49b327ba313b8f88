/** Making a disk larger where that takes one file: one sparse extent with its text inside, or one flat extent. */
import type { Health } from '../../image/health.js';
import type { Limits } from '../../image/limits.js';
import { rewrite } from '../../image/rewrite.js';
import { ImgfsError } from '../../lib/errors.js';
import { readTable, type Storage } from '../../storage/storage.js';
import { CELL, type Live } from './cells.js';
import type { Digits } from './descriptor.js';
import type { Disk } from './disk.js';
import { type Extent, FlatExtent } from './extents.js';
import type { GrainWriter } from './grain-writer.js';
import type { VmdkLayer } from './layer.js';
import { ENTRY_BYTES, MAX, putHostedSize, SECTOR } from './layout.js';
import { SparseExtent } from './sparse.js';

export interface ResizerParts {
  readonly disk: Disk;
  readonly storage: Storage;
  readonly layer: VmdkLayer;
  readonly live: Live;
  readonly health: Health;
  readonly context: { readonly limits: Limits };
}

export class Resizer {
  constructor(
    private readonly parts: ResizerParts,
    private readonly writers: ReadonlyMap<Extent, GrainWriter>,
  ) {}

  /** Room for a disk of `size` bytes. Throws `unsupported` where the disk cannot grow so, and `limit`. */
  reach(size: number): void {
    const { storage, live } = this.parts;
    const extent = this.only();
    if (size % SECTOR !== 0 || size < live.size) {
      const why = size < live.size ? 'made smaller' : 'a size that is no whole number of sectors';
      throw new ImgfsError('unsupported', `${storage.name}: vmdk disks cannot have ${why}`);
    }
    if (extent instanceof FlatExtent) {
      this.newText(size);
      this.reachFlat(extent, size);
    } else this.reachSparse(extent, size);
  }

  resize(size: number): void {
    const { live, storage, health } = this.parts;
    if (size < live.size) {
      throw new ImgfsError('unsupported', `${storage.name}: vmdk disks cannot be made smaller`);
    }
    const extent = this.only();
    if (extent instanceof SparseExtent) this.switchHeader(extent, size);
    else {
      const text = this.newText(size);
      if (text !== undefined) rewrite(storage, { at: 0, ...text }, health);
    }
    health.barrier(storage);
    live.size = size;
  }

  private only(): SparseExtent | FlatExtent {
    const { layer, storage, disk } = this.parts;
    const [first] = layer.placed;
    const extent = layer.placed.length === 1 ? first?.extent : undefined;
    if (extent instanceof FlatExtent) return extent;
    if (extent instanceof SparseExtent && disk.shape?.kind === 'hosted') return extent;
    throw new ImgfsError('unsupported', `${storage.name}: only disks of one flat or hosted sparse extent can grow`);
  }

  /** What the file held behind the extent is nobody's: it must not show. */
  private reachFlat({ storage, offset }: FlatExtent, size: number): void {
    const [from, to] = [offset + this.parts.live.size, offset + size];
    const there = storage.size();
    if (there > from) storage.discard(from, Math.min(there, to) - from);
    if (there < to) storage.resize(to);
  }

  /**
   * Directories with room for the new tables, and these tables, all durable behind the end of the file. Only this
   * process knows of them yet: the header leads to the old ones, which have the same tables for what was there.
   */
  private reachSparse(extent: SparseExtent, size: number): void {
    const { context, health, live, storage } = this.parts;
    const writer = this.writers.get(extent);
    if (writer === undefined) throw new Error('an extent without its writer');
    const { tables } = extent;
    const count = Math.ceil(size / extent.span);
    if (count <= tables.entries) return;
    const bytes = count * ENTRY_BYTES;
    if (size > context.limits.virtualSize || bytes > Math.min(context.limits.tableBytes, MAX.directoryBytes)) {
      throw new ImgfsError('limit', `${storage.name}: a disk of ${size} bytes is too large`);
    }
    writer.ownTables(live.size);
    const moved = [tables.redundant, tables.directory].map((directory) => {
      if (directory === undefined) return 0;
      const at = writer.takeFresh(bytes);
      const entries = Buffer.alloc(directory.bytes);
      readTable(storage, entries, directory.at, directory.what);
      storage.write(entries, at);
      return at;
    });
    health.barrier(storage);
    live.cells[CELL.redundantAt] = moved[0]!;
    live.cells[CELL.directoryEntries] = count;
    live.cells[CELL.directoryAt] = moved[1]!;
    writer.moved();
    writer.ownTables(size);
    health.barrier(storage);
  }

  /**
   * One sector says how large the disk is and where its directories are. The text, in the next sector, is brought along
   * where that is all of it that changes; nobody believes it against the header.
   */
  private switchHeader({ tables, storage }: SparseExtent, size: number): void {
    const { health, disk } = this.parts;
    const text = disk.textAt === SECTOR ? this.newText(size, true) : undefined;
    const along = text !== undefined && text.bytes.length <= SECTOR ? text : undefined;
    const head = Buffer.alloc(SECTOR);
    readTable(storage, head, 0, 'header');
    const old = along === undefined ? head : Buffer.concat([head, along.old]);
    const bytes = Buffer.concat([head, along?.bytes ?? Buffer.alloc(0)]);
    putHostedSize(bytes, {
      capacity: size / SECTOR,
      directoryAt: tables.directory.at / SECTOR,
      redundantAt: (tables.redundant?.at ?? 0) / SECTOR,
    });
    rewrite(storage, { at: 0, bytes, old }, health);
  }

  /**
   * The text with another number of sectors. What is written must not be cut in a way that leaves neither the old nor
   * the new text, so all that changes has to lie in one sector. Throws `unsupported` unless `optional`.
   */
  private newText(size: number, optional = false): { readonly bytes: Buffer; readonly old: Buffer } | undefined {
    const { disk, storage } = this.parts;
    const digits = this.digits();
    if (digits === undefined) return undefined;
    const number = String(size / SECTOR);
    const same = number.length === digits.length;
    const old = Buffer.alloc(same ? digits.at + digits.length : Math.min(SECTOR, storage.size() - disk.textAt));
    readTable(storage, old, disk.textAt, 'descriptor');
    const end = old.indexOf(0) < 0 ? old.length : old.indexOf(0);
    const text = Buffer.concat([
      old.subarray(0, digits.at),
      Buffer.from(number),
      old.subarray(digits.at + digits.length, end),
    ]);
    const whole = same || (end < SECTOR && text.length <= SECTOR && digits.at + digits.length <= end);
    if (!whole && optional) return undefined;
    if (!whole) {
      throw new ImgfsError('unsupported', `${storage.name}: the descriptor has no room for the new size`);
    }
    // Behind a text of its own ends the file; inside an extent zeros follow.
    return { bytes: text, old: disk.shape === undefined ? old.subarray(0, end) : old.subarray(0, text.length) };
  }

  /** As the text has them now: it may have changed since it was read. */
  private digits(): Digits | undefined {
    const { disk, live } = this.parts;
    const [line] = disk.descriptor.extents;
    if (line === undefined) return undefined;
    const length = live.cells[CELL.size] === 0 ? line.digits.length : String(live.size / SECTOR).length;
    return { at: line.digits.at, length };
  }
}
