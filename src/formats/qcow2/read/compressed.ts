import { inflate } from '../../../codec/inflate.js';
import { zstdDecompress } from '../../../codec/zstd.js';
import type { PackedUnit } from '../../../image/mapping.js';
import { corrupt } from '../../../lib/errors.js';
import { readPadded, type Storage } from '../../../storage/storage.js';
import type { PackedPlace } from './layout.js';

/** Reads and unpacks compressed clusters of one image. Keeps one buffer for the packed bytes: the code is synchronous. */
export class Unpacker {
  private packed = new Uint8Array();

  constructor(
    private readonly storage: Storage,
    private readonly compression: 'zlib' | 'zstd',
  ) {}

  /**
   * Fills `into` (one cluster). The stored length counts whole sectors: it may reach into the next cluster or past
   * the end of the file, and what follows the stream is not ours to judge. Throws `corrupt` unless the stream yields
   * exactly one cluster.
   */
  unpack(place: PackedPlace, into: Uint8Array): void {
    if (this.packed.length < place.length) this.packed = new Uint8Array(place.length);
    const packed = this.packed.subarray(0, place.length);
    readPadded(this.storage, packed, place.offset);
    const got = this.compression === 'zlib' ? inflate(packed, into) : zstdDecompress(packed, into);
    if (got !== into.length) {
      throw corrupt(`${this.storage.name}: the compressed cluster at ${place.offset} cannot be unpacked`);
    }
  }
}

/** One compressed guest cluster. */
export class CompressedCluster implements PackedUnit {
  constructor(
    /** The host offset: what is stored there never changes while a table leads to it. */
    readonly key: number,
    readonly size: number,
    readonly skip: number,
    private readonly place: PackedPlace,
    private readonly unpacker: Unpacker,
  ) {}

  unpack(into: Uint8Array): void {
    this.unpacker.unpack(this.place, into);
  }
}
