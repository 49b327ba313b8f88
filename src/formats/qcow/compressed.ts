import { inflate } from '../../codec/inflate.js';
import type { PackedUnit } from '../../image/mapping.js';
import { corrupt } from '../../lib/errors.js';
import { readPadded, type Storage } from '../../storage/storage.js';
import type { PackedPlace } from './layout.js';

/** Reads and unpacks compressed clusters of one image. Keeps one buffer for the packed bytes: the code is synchronous. */
export class Unpacker {
  private packed = new Uint8Array();

  constructor(private readonly storage: Storage) {}

  /** Fills `into`, one cluster. Throws `corrupt` unless the stream yields exactly that. */
  unpack({ offset, length }: PackedPlace, into: Uint8Array): void {
    if (this.packed.length < length) this.packed = new Uint8Array(length);
    const packed = this.packed.subarray(0, length);
    readPadded(this.storage, packed, offset);
    if (inflate(packed, into) === into.length) return;
    throw corrupt(`${this.storage.name}: the compressed cluster at ${offset} cannot be unpacked`);
  }
}

/** One compressed guest cluster. */
export class CompressedCluster implements PackedUnit {
  /** The host offset: a stream is never replaced where it lies. */
  readonly key: number;

  constructor(
    readonly size: number,
    readonly skip: number,
    private readonly place: PackedPlace,
    private readonly unpacker: Unpacker,
  ) {
    this.key = place.offset;
  }

  unpack(into: Uint8Array): void {
    this.unpacker.unpack(this.place, into);
  }
}
