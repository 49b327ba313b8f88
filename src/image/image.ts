import type { PackMethod } from '../codec/pack.js';
import type { Storage } from '../storage/storage.js';

/** A value as JSON has it. */
export type Json = string | number | boolean | null | readonly Json[] | { readonly [key: string]: Json };

/** One internal snapshot, as its image records it. */
export interface Snapshot {
  /** The image's own id: unique, never empty. */
  readonly id: string;
  /** The name's bytes as stored: any bytes, perhaps not UTF-8, perhaps equal to another's. */
  readonly nameBytes: Uint8Array;
  /** The name decoded for people (invalid UTF-8 replaced); never used to find anything on disk. */
  readonly name: string;
  /** When it was taken. */
  readonly seconds: number;
  readonly nanoseconds: number;
  /** Guest clock at that moment, in nanoseconds. */
  readonly vmClockNanoseconds: bigint;
  /** Bytes of saved machine state; 0 for none. */
  readonly vmStateSize: number;
  /** Size of the guest disk at that moment, in bytes. */
  readonly diskSize: number;
  /** Instruction count of a replayed guest, where one was recorded. */
  readonly icount?: bigint;
}

/** What a snapshot is said to have been when it was taken. */
export type SnapshotFacts = Pick<Snapshot, 'seconds' | 'nanoseconds'> &
  Partial<Pick<Snapshot, 'id' | 'vmClockNanoseconds' | 'icount'>>;

/** A run of guest bytes with one answer to "where do these come from". */
export interface Extent {
  readonly start: number;
  /** At least 1. */
  readonly length: number;
  /** 0 is this image, 1 its backing image, and so on; the layer that decides. */
  readonly depth: number;
  /** Some layer of the chain has a say about the range. */
  readonly present: boolean;
  /** The range is known to read as zeros. */
  readonly zero: boolean;
  /** The range is stored bytes. Preallocated ranges can be both `data` and `zero`. */
  readonly data: boolean;
  readonly compressed: boolean;
  /** Where the bytes lie, when they lie in one piece as they are: that storage and the offset in it. */
  readonly storage?: Storage;
  readonly offset?: number;
}

/** A file an image names, exactly as it names it. */
export interface NamedFile {
  readonly name: string;
  readonly format?: string;
}

/** A persistent bitmap of what has changed since something, as its image records it. */
export interface DirtyBitmap {
  readonly name: string;
  /** Guest bytes per bit. */
  readonly granularity: number;
  /** Its last user did not finish: the content cannot be trusted. */
  readonly inUse: boolean;
  /** It must track changes from the moment the image is opened for writing. */
  readonly auto: boolean;
}

/** What `info` tells beyond size and snapshots. Field by field what qemu-img prints for the format. */
export interface ImageInfo {
  readonly format: string;
  /** Allocation unit in bytes, where the format has one. */
  readonly clusterSize?: number;
  /** The image says that its last writer did not finish. */
  readonly dirty: boolean;
  readonly encrypted: boolean;
  readonly compressed: boolean;
  readonly backing?: NamedFile;
  /** Undefined where the format, or this version of it, has none. */
  readonly bitmaps?: readonly DirtyBitmap[] | undefined;
  /** qemu-img's `format-specific` object. */
  readonly specific?: { readonly type: string; readonly data: { readonly [key: string]: Json } };
}

/**
 * What a disk that grows gets for its new part: nothing but a larger size; its place in the tables (`metadata`); that
 * and space set aside on the host (`falloc`); that and written zeros (`full`).
 */
export type Preallocation = 'off' | 'metadata' | 'falloc' | 'full';

/** How an image stores units packed: what any thread needs to pack them for it. */
export interface Packing {
  /** Guest bytes that are packed together. They begin at multiples of it. */
  readonly unit: number;
  /** What `pack` is told. */
  readonly method: PackMethod;
  /** The image stores nothing otherwise: `write` packs too, and every unit is written once, in ascending order. */
  readonly always: boolean;
}

/**
 * An opened virtual disk. Offsets and lengths are guest bytes; `size` is exact, also where it is no multiple of 512.
 * Whoever opened it closes it; closing an image closes what it opened (its backing image, its snapshots' readers).
 */
export interface Image {
  readonly size: number;
  /** Unit in which the image allocates; what STATFS reports, so that discards arrive in whole units. */
  readonly blockSize: number;
  readonly info: ImageInfo;
  /** The next layer down, if there is one. Owned by this image. */
  readonly backing: Image | undefined;
  /**
   * Fills `into` with guest bytes from `at`. The range must lie inside the disk.
   * Throws `corrupt`, `truncated` or `io` for ranges that cannot be had; other ranges stay readable.
   */
  read(into: Uint8Array, at: number): void;
  /** The extent that begins at `at` (0 <= at < size), at most `length` bytes of it. Extents tile the disk exactly. */
  extent(at: number, length: number): Extent;
  /** In the image's own order. Empty for formats without. */
  snapshots(): readonly Snapshot[];
  /** The disk as it was at that snapshot, read-only, with the size it had. The caller closes it. */
  openSnapshot(id: string): Image;
  /** The saved machine state of a snapshot, as bytes. The caller closes it. Throws `missing` if it has none. */
  openVmState(id: string): Image;
  /** Whether the methods below that change anything may be called; otherwise they throw `read-only`. */
  readonly writable: boolean;
  /** Replaces guest bytes. When it returns they are in the image's files, though not durable before `flush`. */
  write(from: Uint8Array, at: number): void;
  /**
   * Overwrites bytes where they lie, changing no table: what several threads may do at once. Returns how many were done,
   * from the beginning: all, or all but a part of a sector, or none where some of the range has no place yet. `write`
   * does the rest.
   */
  overwrite(from: Uint8Array, at: number): number;
  /**
   * As `write`, of bytes that lie as they are at `from` of `source`, copied by the host itself. Returns how many were
   * done, from the beginning: perhaps fewer than asked for, 0 where it cannot be done, which is what `write` is for. With
   * `share` nothing is copied: both files share the blocks.
   */
  copyIn(source: Storage, from: number, at: number, length: number, share?: 'share'): number;
  /** How units can be stored packed; undefined where they cannot. */
  readonly packing: Packing | undefined;
  /**
   * As `write`, of the one whole unit at `at` (a multiple of `packing.unit`), packed by `packing.method`. The unit that
   * the disk ends in was filled up with zeros before.
   */
  writePacked(packed: Uint8Array, at: number): void;
  /** Makes the range read as zeros. `unmap` allows giving its space back to the image and the host. */
  zero(at: number, length: number, options: { readonly unmap: boolean }): void;
  /**
   * Lets tables catch up with what was written where that waits for a flush: called about once a second while an
   * image is in use, it bounds what a killed process can lose. No promise of durability.
   */
  publish(): void;
  /** Returns when everything written before is durable. After a failure every later write and flush fails too. */
  flush(): void;
  /**
   * Changes the guest size; `preallocation` (`off` by default) is for one that grows. Durable on return. Throws
   * `unsupported` where the format cannot, and `no-space`: the disk then has the size it had.
   */
  resize(size: number, preallocation?: Preallocation): void;
  /**
   * Gives up all that this layer holds, so that the disk reads as what lies below, which must hold the same already,
   * durably: of a crash any part of this may be left. Snapshots stay. Durable on return. Throws `unsupported`.
   */
  empty(): void;
  /**
   * Names another file as what lies below, or none: looked up when the image is opened again, which is all that may be
   * done with it afterwards. All or nothing, also across a crash; durable on return. Throws `unsupported`, and `limit`
   * where there is no room for the name.
   */
  changeBacking(backing: NamedFile | undefined): void;
  /**
   * Takes a snapshot of the present state under a name of any bytes; durable on return. It was taken now, unless `as`
   * says what another image tells of it; an id that is taken already is an error.
   */
  createSnapshot(name: Uint8Array, as?: SnapshotFacts): Snapshot;
  deleteSnapshot(id: string): void;
  /** Makes the disk what it was at the snapshot, its size included. */
  applySnapshot(id: string): void;
  renameSnapshot(id: string, name: Uint8Array): void;
  /** Bytes the host has allocated for this layer's own files. */
  hostBytes(): number;
  close(): void;
}

/** The extents of a range, adjacent equal ones joined, in order, tiling it exactly. */
export function* extents(image: Pick<Image, 'size' | 'extent'>, at = 0, length = image.size - at): Generator<Extent> {
  const end = at + length;
  let pending: Extent | undefined;
  for (let from = at; from < end; ) {
    const next = image.extent(from, end - from);
    from += next.length;
    if (pending === undefined) pending = next;
    else if (continues(pending, next)) pending = { ...pending, length: pending.length + next.length };
    else {
      yield pending;
      pending = next;
    }
  }
  if (pending !== undefined) yield pending;
}

function continues(a: Extent, b: Extent): boolean {
  return (
    a.depth === b.depth &&
    a.present === b.present &&
    a.zero === b.zero &&
    a.data === b.data &&
    a.compressed === b.compressed &&
    a.storage === b.storage &&
    (a.offset === undefined ? b.offset === undefined : b.offset === a.offset + a.length)
  );
}
