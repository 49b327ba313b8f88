import { LRUCache } from 'lru-cache';
import { readPadded } from '../storage/storage.js';
import type { Extent, Image } from './image.js';
import type { Layer, Mapping, PackedUnit } from './mapping.js';

/**
 * The one read path of every format: turns mappings into reads, merging neighbours so that a contiguous range is one
 * host read, and going down the chain where a layer has no say. Ranges are the caller's to check; where the layer can
 * be written they may reach past the end of the disk, as far as the unit that holds it.
 */
export class ReadPath {
  private unpacked: LRUCache<number, Uint8Array> | undefined;

  constructor(
    private readonly layer: Layer,
    private readonly backing: Image | undefined,
    /** Bytes of unpacked units to keep. */
    private readonly unpackedBytes: number,
  ) {}

  /** The present content; zeros past the end of the disk. */
  read(into: Uint8Array, at: number): void {
    const length = into.length;
    let done = 0;
    while (done < length) {
      const mapping = this.layer.map(at + done, length - done);
      if (mapping.kind === 'data') done += this.readRun(mapping, into, at, done);
      else {
        const end = done + mapping.length;
        const target = done === 0 && end === length ? into : into.subarray(done, end);
        if (mapping.kind === 'zero') target.fill(0);
        else if (mapping.kind === 'hole') this.readBacking(target, at + done);
        else this.readPacked(mapping.unit, target);
        done = end;
      }
    }
  }

  /** As `Image.extent`. */
  extent(at: number, length: number): Extent {
    const mapping = this.layer.mapInDetail?.(at, length) ?? this.layer.map(at, length);
    const below = mapping.kind !== 'hole' || this.backing === undefined ? 0 : this.backing.size - at;
    if (this.backing === undefined || below <= 0) return extentOf(mapping, at);
    const deeper = this.backing.extent(at, Math.min(mapping.length, below));
    return { ...deeper, depth: deeper.depth + 1 };
  }

  /** Whether the range is known to read as zeros, by the tables alone. */
  readsAsZeros(at: number, length: number): boolean {
    const end = at + length;
    for (let here = at; here < end; ) {
      const mapping = this.layer.map(here, end - here);
      let known = mapping.length;
      if (mapping.kind === 'hole' && this.backing !== undefined && here < this.backing.size) {
        const below = this.backing.extent(here, Math.min(known, this.backing.size - here));
        if (!below.zero) return false;
        known = below.length;
      } else if (mapping.kind !== 'zero' && mapping.kind !== 'hole') return false;
      here += known;
    }
    return true;
  }

  /** Lets go of unpacked units. */
  forget(): void {
    this.unpacked?.clear();
  }

  /** Reads `first` and every mapping that continues it in the same storage with one host read. */
  private readRun(first: Mapping & { kind: 'data' }, into: Uint8Array, at: number, done: number): number {
    let run = first.length;
    while (done + run < into.length) {
      const next = this.layer.map(at + done + run, into.length - done - run);
      if (next.kind !== 'data' || next.storage !== first.storage || next.offset !== first.offset + run) break;
      run += next.length;
    }
    const whole = done === 0 && run === into.length;
    readPadded(first.storage, whole ? into : into.subarray(done, done + run), first.offset);
    return run;
  }

  /** A backing image shorter than this one reads as zeros past its end. */
  private readBacking(into: Uint8Array, at: number): void {
    const below = this.backing === undefined ? 0 : Math.max(0, Math.min(into.length, this.backing.size - at));
    if (below > 0) this.backing?.read(below === into.length ? into : into.subarray(0, below), at);
    if (below < into.length) into.fill(0, below);
  }

  private readPacked(unit: PackedUnit, into: Uint8Array): void {
    if (unit.skip === 0 && into.length === unit.size) {
      const kept = this.unpacked?.get(unit.key);
      if (kept === undefined) unit.unpack(into);
      else into.set(kept);
      return;
    }
    into.set(this.unpackedUnit(unit).subarray(unit.skip, unit.skip + into.length));
  }

  private unpackedUnit(unit: PackedUnit): Uint8Array {
    this.unpacked ??= new LRUCache<number, Uint8Array>({
      maxSize: Math.max(this.unpackedBytes, unit.size),
      sizeCalculation: (bytes) => bytes.length,
    });
    const kept = this.unpacked.get(unit.key);
    if (kept !== undefined) return kept;
    const fresh = new Uint8Array(unit.size);
    unit.unpack(fresh);
    this.unpacked.set(unit.key, fresh);
    return fresh;
  }
}

/** What one layer alone says: a hole reads as zeros. */
function extentOf(mapping: Mapping, start: number): Extent {
  const { kind, length } = mapping;
  const data = kind === 'data' || kind === 'packed';
  const zero = !data || (kind === 'data' && mapping.zero === true);
  const present = kind !== 'hole';
  if (kind !== 'packed' && mapping.storage !== undefined && mapping.storage.sector === undefined) {
    const { storage, offset } = mapping;
    if (offset !== undefined)
      return { start, length, depth: 0, present, zero, data, compressed: false, storage, offset };
  }
  return { start, length, depth: 0, present, zero, data, compressed: kind === 'packed' };
}
