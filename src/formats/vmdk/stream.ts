/** Compressed grains: a stream each, with a marker before it that says how long it is. */
import { inflateZlib } from '../../codec/inflate.js';
import type { PackedUnit } from '../../image/mapping.js';
import { asBuffer } from '../../lib/bits.js';
import { corrupt } from '../../lib/errors.js';
import { readPadded, type Storage } from '../../storage/storage.js';
import type { SparseShape } from './header.js';
import { decodeMarker, MARKER_BYTES } from './layout.js';

/** A stream is never longer than this many times its grain: what QEMU reads at most. */
export const MAX_PACKED = 2;

/** Reads and unpacks grains of one extent. Keeps one buffer: the code is synchronous. */
export class Unpacker {
  private readonly packed: Uint8Array;

  constructor(
    private readonly storage: Storage,
    private readonly shape: SparseShape,
  ) {
    this.packed = new Uint8Array(shape.grainSize * MAX_PACKED + MARKER_BYTES + 4);
  }

  /**
   * Fills `into` with the grain at host offset `at`, of which the disk has `needed` bytes; the rest becomes zeros.
   * Throws `corrupt` where the marker or the stream is damaged.
   */
  unpack(at: number, into: Uint8Array, needed: number): void {
    const { storage, packed } = this;
    readPadded(storage, packed, at);
    const got = inflateZlib(this.stream(at), into);
    if (got === undefined || got < needed) throw corrupt(`${storage.name}: the grain at ${at} cannot be unpacked`);
    into.fill(0, got);
  }

  private stream(at: number): Uint8Array {
    const { packed, shape, storage } = this;
    if (!shape.markers) return packed.subarray(0, shape.grainSize * MAX_PACKED);
    const { size } = decodeMarker(asBuffer(packed), storage.name);
    if (size === 0 || size > shape.grainSize * MAX_PACKED) {
      throw corrupt(`${storage.name}: the grain at ${at} claims ${size} packed bytes`);
    }
    return packed.subarray(MARKER_BYTES, MARKER_BYTES + size);
  }
}

/** One compressed grain. */
export class PackedGrain implements PackedUnit {
  constructor(
    readonly key: number,
    readonly size: number,
    readonly skip: number,
    private readonly at: number,
    private readonly needed: number,
    private readonly unpacker: Unpacker,
  ) {}

  unpack(into: Uint8Array): void {
    this.unpacker.unpack(this.at, into, this.needed);
  }
}
