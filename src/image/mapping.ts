import { ImgfsError } from '../lib/errors.js';
import type { Storage } from '../storage/storage.js';
import type { Health } from './health.js';
import type { Extent, Image, ImageInfo, NamedFile, Packing, Preallocation, Snapshot, SnapshotFacts } from './image.js';
import { ReadPath } from './reading.js';
import type { LayerWriter, SnapshotWriter } from './writer.js';
import { WritePath, type WrittenDisk } from './writing.js';

/** A unit of the guest disk that is stored compressed and can only be had as a whole. */
export interface PackedUnit {
  /** Identifies the unit among all of this layer: the cache key. */
  readonly key: number;
  /** Guest bytes in the unit. */
  readonly size: number;
  /** Where in the unit the mapping begins. */
  readonly skip: number;
  /** Fills `into` (`size` bytes) or throws `corrupt`. */
  unpack(into: Uint8Array): void;
}

/**
 * What a guest offset is mapped to, and for how many bytes that answer holds.
 *
 * - `data`: stored as they are, at `offset` of `storage`; bytes past the end of that storage read as zeros. `zero`
 *   marks stored bytes that are known to be zeros (a preallocated hole of the host file), `ours` bytes that nothing
 *   else refers to, so that they may be overwritten where they are.
 * - `zero`: this layer says zeros, whatever lies below. `offset` is set when space is nevertheless allocated there.
 * - `hole`: this layer has no say; the backing image decides, or zeros without one. `offset` as for `zero`.
 * - `packed`: compressed.
 *
 * `length` is at least 1 and at most what was asked for; a driver answers with the longest run it can tell cheaply.
 */
export type Mapping =
  | {
      readonly kind: 'data';
      readonly length: number;
      readonly storage: Storage;
      readonly offset: number;
      readonly zero?: boolean;
      readonly ours?: boolean;
    }
  | { readonly kind: 'zero'; readonly length: number; readonly storage?: Storage; readonly offset?: number }
  | { readonly kind: 'hole'; readonly length: number; readonly storage?: Storage; readonly offset?: number }
  | { readonly kind: 'packed'; readonly length: number; readonly unit: PackedUnit };

/**
 * What a driver provides: one layer of an opened image, without its backing. It never reads guest data itself.
 * `map` is called with 0 <= at < size and 1 <= length <= size - at; where the layer can be written, also for the rest
 * of the unit that holds the disk's end, and for what `reach` was called for.
 */
export interface Layer {
  readonly size: number;
  readonly blockSize: number;
  readonly info: ImageInfo;
  map(at: number, length: number): Mapping;
  /** As `map`, with what only a map of the image needs to know (holes of the host file). By default the same. */
  mapInDetail?(at: number, length: number): Mapping;
  hostBytes(): number;
  close(): void;
}

/** What a driver with internal snapshots provides beside its active layer. Layers it returns share its tables. */
export interface SnapshotSource {
  list(): readonly Snapshot[];
  layer(id: string): Layer;
  vmState(id: string): Layer;
}

export interface MappedImageParts {
  readonly layer: Layer;
  readonly backing?: Image | undefined;
  /** The backing image belongs to somebody else, who outlives this image. */
  readonly backingIsBorrowed?: boolean;
  readonly snapshots?: SnapshotSource | undefined;
  /** Set where the layer can be changed. */
  readonly writing?: { readonly writer: LayerWriter; readonly health: Health } | undefined;
  /** Bytes of unpacked units to keep. */
  readonly unpackedBytes: number;
}

/**
 * The one image of every format: a layer, what lies below it, its snapshots, and the two paths that read and change
 * it. Owns the layer and the backing image.
 */
export class MappedImage implements Image {
  readonly blockSize: number;
  readonly info: ImageInfo;
  readonly backing: Image | undefined;
  private readonly layer: Layer;
  private readonly backingIsBorrowed: boolean;
  private readonly source: SnapshotSource | undefined;
  private readonly unpackedBytes: number;
  private readonly reading: ReadPath;
  private readonly writing: WritePath | undefined;
  private open = true;

  constructor(parts: MappedImageParts) {
    this.layer = parts.layer;
    this.backing = parts.backing;
    this.backingIsBorrowed = parts.backingIsBorrowed === true;
    this.source = parts.snapshots;
    this.unpackedBytes = parts.unpackedBytes;
    this.blockSize = this.layer.blockSize;
    this.info = this.layer.info;
    this.reading = new ReadPath(this.layer, this.backing, parts.unpackedBytes);
    this.writing = parts.writing && new WritePath(this.forWriting(), parts.writing.writer, parts.writing.health);
  }

  get writable(): boolean {
    return this.writing !== undefined;
  }

  /** Asked each time: a resize changes it. */
  get size(): number {
    return this.layer.size;
  }

  read(into: Uint8Array, at: number): void {
    this.assertInside(at, into.length);
    this.reading.read(into, at);
  }

  extent(at: number, length: number): Extent {
    this.assertInside(at, length);
    return this.reading.extent(at, length);
  }

  snapshots(): readonly Snapshot[] {
    return this.source?.list() ?? [];
  }

  openSnapshot(id: string): Image {
    return this.derived((source) => source.layer(id), this.backing);
  }

  openVmState(id: string): Image {
    return this.derived((source) => source.vmState(id), undefined);
  }

  write(from: Uint8Array, at: number): void {
    this.assertInside(at, from.length);
    this.changes().write(from, at);
  }

  overwrite(from: Uint8Array, at: number): number {
    this.assertInside(at, from.length);
    return this.changes().overwrite(from, at);
  }

  copyIn(source: Storage, from: number, at: number, length: number, share?: 'share'): number {
    this.assertInside(at, length);
    return this.changes().copyIn(source, from, at, length, share);
  }

  get packing(): Packing | undefined {
    return this.writing?.writer.packing;
  }

  writePacked(packed: Uint8Array, at: number): void {
    this.assertInside(at, 1);
    this.changes().writePacked(packed, at);
    // Units are known by where they lie, and that may have been another's place.
    this.reading.forget();
  }

  zero(at: number, length: number, options: { readonly unmap: boolean }): void {
    this.assertInside(at, length);
    this.changes().zero(at, length, options);
  }

  publish(): void {
    if (this.writing?.health.sound === true) this.writing.writer.publish();
  }

  flush(): void {
    this.writing?.flush();
  }

  resize(size: number, preallocation: Preallocation = 'off'): void {
    if (!Number.isSafeInteger(size) || size < 0) throw new RangeError(`${size} is not a size`);
    const changes = this.changes();
    if (preallocation !== 'off' && changes.writer.preallocations?.includes(preallocation) !== true) {
      throw new ImgfsError('unsupported', `${this.info.format} has no preallocation by ${preallocation}`);
    }
    changes.resize(size, preallocation);
  }

  empty(): void {
    this.changes().empty();
    this.reading.forget();
  }

  changeBacking(backing: NamedFile | undefined): void {
    const { writer, health } = this.changes();
    health.assertSound();
    if (writer.changeBacking === undefined) {
      throw new ImgfsError('unsupported', `what lies below ${this.info.format} images cannot be changed`);
    }
    writer.changeBacking(backing);
  }

  createSnapshot(name: Uint8Array, as: SnapshotFacts = takenNow()): Snapshot {
    return this.snapshotChanges().create(name, as);
  }

  deleteSnapshot(id: string): void {
    this.snapshotChanges().delete(id);
  }

  applySnapshot(id: string): void {
    this.snapshotChanges().apply(id);
  }

  renameSnapshot(id: string, name: Uint8Array): void {
    this.snapshotChanges().rename(id, name);
  }

  hostBytes(): number {
    return this.layer.hostBytes();
  }

  close(): void {
    if (!this.open) return;
    this.open = false;
    this.reading.forget();
    try {
      this.writing?.finish();
    } finally {
      this.layer.close();
      if (!this.backingIsBorrowed) this.backing?.close();
    }
  }

  /** A reader of another state of the same image, over the backing image that stays ours. */
  private derived(make: (source: SnapshotSource) => Layer, backing: Image | undefined): Image {
    if (this.source === undefined) throw new ImgfsError('missing', `${this.info.format} images have no snapshots`);
    return new MappedImage({
      layer: make(this.source),
      backing,
      backingIsBorrowed: true,
      unpackedBytes: this.unpackedBytes,
    });
  }

  /** The reading side as the write path sees it: it also asks about the rest of the last unit, past the end. */
  private forWriting(): WrittenDisk {
    const { layer, backing, reading } = this;
    return {
      get size() {
        return layer.size;
      },
      blockSize: layer.blockSize,
      get backingSize() {
        return backing?.size ?? 0;
      },
      map: (at, length) => layer.map(at, length),
      read: (into, at) => reading.read(into, at),
      readsAsZeros: (at, length) => reading.readsAsZeros(at, length),
    };
  }

  private changes(): WritePath {
    if (this.writing === undefined) {
      throw new ImgfsError('read-only', `the ${this.info.format} image is open read-only`);
    }
    return this.writing;
  }

  private snapshotChanges(): SnapshotWriter {
    const { writer, health } = this.changes();
    health.assertSound();
    if (writer.snapshots === undefined) {
      throw new ImgfsError('unsupported', `${this.info.format} images have no snapshots`);
    }
    return writer.snapshots;
  }

  private assertInside(at: number, length: number): void {
    if (!this.open) throw new Error('image used after close');
    if (!(at >= 0 && length >= 0 && at + length <= this.size))
      throw new RangeError(`${at}+${length} is outside the disk`);
  }
}

function takenNow(): SnapshotFacts {
  const now = Date.now();
  return { seconds: Math.floor(now / 1000), nanoseconds: (now % 1000) * 1_000_000 };
}
