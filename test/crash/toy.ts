/**
 * A toy format that can be told to make the mistakes the crash runner is there to find: a header sector, one table
 * of block numbers, blocks of 1 KiB handed out from the end of the file, a copy of the table before each snapshot.
 */
import type { ImageFormat } from '../../src/image/format.js';
import type { Image, ImageInfo, Snapshot } from '../../src/image/image.js';
import { unopenedImage } from '../../src/image/unopened.js';
import { corrupt, ImgfsError } from '../../src/lib/errors.js';
import { readPadded, type Storage } from '../../src/storage/storage.js';
import type { StructureCheck } from './structure.js';

/** What a toy does wrong. */
export type Mistake =
  | 'no barrier'
  | 'counter after table'
  | 'neighbours written late'
  | 'flush does nothing'
  | 'stray write'
  | 'swallows errors'
  | 'publishes before it writes';

const BLOCK = 1024;
const SECTOR = 512;
const ENTRIES = SECTOR / 4;
const MAGIC = 0x746f_7931;
const TABLE_AT = SECTOR;
const FIRST_BLOCK = 1;

const INFO: ImageInfo = { format: 'toy', dirty: false, encrypted: false, compressed: false };

/** The disk every toy has: 64 KiB. */
export const TOY_SIZE = 64 * BLOCK;

/** An empty toy image. */
export function emptyToy(): Uint8Array {
  const bytes = Buffer.alloc(BLOCK);
  bytes.writeUInt32LE(MAGIC, 0);
  bytes.writeUInt32LE(FIRST_BLOCK, 4);
  return bytes;
}

/** A toy that makes `mistakes`. */
export function toy(...mistakes: readonly Mistake[]): ImageFormat {
  return {
    kind: 'image',
    name: 'toy',
    summary: 'for tests',
    extensions: [],
    can: { write: true, create: false, snapshots: false, resize: false },
    probe: () => false,
    open: (storage, { writable }) => new ToyImage(storage, writable, new Set(mistakes)),
  };
}

/** No block used twice, none at or past the counter of used blocks. */
export const checkToy: StructureCheck = (_rig, [image]) => {
  if (image === undefined) return { corruptions: ['no image'], leakedBytes: 0 };
  const head = Buffer.alloc(BLOCK);
  image.read(head, 0);
  const next = head.readUInt32LE(4);
  const used = Array.from({ length: ENTRIES }, (_, n) => head.readUInt32LE(TABLE_AT + n * 4)).filter(
    (block) => block > 0,
  );
  const corruptions = [
    ...used.filter((block) => block >= next).map((block) => `block ${block} is not counted`),
    ...used.filter((block, n) => used.indexOf(block) !== n).map((block) => `block ${block} is used twice`),
  ];
  return { corruptions, leakedBytes: (next - FIRST_BLOCK - used.length) * BLOCK };
};

class ToyImage implements Image {
  readonly size = TOY_SIZE;
  readonly blockSize = BLOCK;
  readonly info = INFO;
  readonly backing = undefined;
  readonly extent = unopenedImage({ role: 'backing', name: 'toy' }).extent;
  private readonly table = Buffer.alloc(SECTOR);
  private next: number;

  constructor(
    private readonly storage: Storage,
    readonly writable: boolean,
    private readonly mistakes: ReadonlySet<Mistake>,
  ) {
    const header = Buffer.alloc(SECTOR);
    readPadded(storage, header, 0);
    if (header.readUInt32LE(0) !== MAGIC) throw corrupt('not a toy');
    this.next = header.readUInt32LE(4);
    readPadded(storage, this.table, TABLE_AT);
  }

  read(into: Uint8Array, at: number): void {
    this.eachBlock(at, into.length, (index, within, done, length) => {
      const block = this.table.readUInt32LE(index * 4);
      const part = into.subarray(done, done + length);
      if (block === 0) part.fill(0);
      else readPadded(this.storage, part, block * BLOCK + within);
    });
  }

  write(from: Uint8Array, at: number): void {
    this.eachBlock(at, from.length, (index, within, done, length) => {
      try {
        this.writeBlock(index, within, from.subarray(done, done + length));
      } catch (error) {
        if (!this.mistakes.has('swallows errors')) throw error;
      }
    });
  }

  zero(at: number, length: number): void {
    this.write(new Uint8Array(length), at);
  }

  flush(): void {
    if (!this.mistakes.has('flush does nothing')) this.storage.flush();
  }

  copyIn(): number {
    return 0;
  }

  readonly packing = undefined;

  writePacked(): void {
    throw new ImgfsError('unsupported', 'a toy stores nothing packed');
  }

  overwrite(): number {
    return 0;
  }

  publish(): void {}

  resize(): void {
    throw new ImgfsError('unsupported', 'a toy has one size');
  }

  empty(): void {
    throw new ImgfsError('unsupported', 'a toy is never empty');
  }

  changeBacking(): void {
    throw new ImgfsError('unsupported', 'nothing lies below a toy');
  }

  snapshots(): readonly Snapshot[] {
    return [];
  }

  openSnapshot(): Image {
    throw this.noSnapshots();
  }

  openVmState(): Image {
    throw this.noSnapshots();
  }

  createSnapshot(): Snapshot {
    throw this.noSnapshots();
  }

  deleteSnapshot(): void {
    throw this.noSnapshots();
  }

  applySnapshot(): void {
    throw this.noSnapshots();
  }

  renameSnapshot(): void {
    throw this.noSnapshots();
  }

  hostBytes(): number {
    return this.storage.allocated();
  }

  close(): void {
    if (this.writable) this.flush();
  }

  /** Counter, then data, then (after a barrier) the table. Rewritten blocks go where they are. */
  private writeBlock(index: number, within: number, bytes: Uint8Array): void {
    const { mistakes, storage } = this;
    const old = this.table.readUInt32LE(index * 4);
    if (old !== 0) {
      storage.write(bytes, old * BLOCK + within);
      return;
    }
    const block = this.next;
    const late = mistakes.has('neighbours written late');
    const content = Buffer.alloc(BLOCK, late ? 0xee : 0);
    content.set(bytes, within);
    const table = Buffer.from(this.table);
    table.writeUInt32LE(block, index * 4);
    if (mistakes.has('publishes before it writes')) this.publishTable(table);
    if (!mistakes.has('counter after table')) this.count(block + 1);
    storage.write(content, block * BLOCK);
    if (mistakes.has('stray write') && block === 5) storage.write(Buffer.from('!'), FIRST_BLOCK * BLOCK + 700);
    if (!mistakes.has('no barrier')) storage.flush();
    this.publishTable(table);
    if (late) {
      content.fill(0, 0, within).fill(0, within + bytes.length);
      storage.write(content, block * BLOCK);
    }
    if (mistakes.has('counter after table')) this.count(block + 1);
  }

  private count(next: number): void {
    const counter = Buffer.alloc(4);
    counter.writeUInt32LE(next);
    this.storage.write(counter, 4);
    this.next = next;
  }

  private publishTable(table: Buffer): void {
    this.storage.write(table, TABLE_AT);
    table.copy(this.table);
  }

  private eachBlock(
    at: number,
    length: number,
    each: (i: number, within: number, done: number, n: number) => void,
  ): void {
    for (let done = 0; done < length; ) {
      const within = (at + done) % BLOCK;
      const step = Math.min(BLOCK - within, length - done);
      each((at + done - within) / BLOCK, within, done, step);
      done += step;
    }
  }

  private noSnapshots(): ImgfsError {
    return new ImgfsError('missing', 'a toy has no snapshots');
  }
}
