/** Disks made of runs, for tests of what reads disks by their extents. */
import type { ComparedDisk } from '../../src/convert/side.js';
import type { Extent } from '../../src/image/image.js';
import type { Storage } from '../../src/storage/storage.js';

/** A run of a made disk: what it says of itself, and the byte it is full of. */
export interface Run {
  readonly length: number;
  readonly zero: boolean;
  readonly data: boolean;
  readonly byte: number;
  /** Where its bytes are said to lie. */
  readonly storage?: Storage;
  readonly offset?: number;
}

export const hole = (length: number): Run => ({ length, zero: true, data: false, byte: 0 });
export const data = (length: number, byte: number): Run => ({ length, zero: false, data: true, byte });

/** A disk made of runs that notes what is read of it, and lets nobody read what it said to be zeros. */
export class MadeDisk implements ComparedDisk {
  readonly size: number;
  readonly reads: (readonly [at: number, length: number])[] = [];
  private readonly extents: readonly (Extent & { readonly byte: number })[];

  constructor(runs: readonly Run[]) {
    let start = 0;
    this.extents = runs.map((run) => {
      const extent = { ...run, start, depth: 0, present: run.data, compressed: false };
      start += run.length;
      return extent;
    });
    this.size = start;
  }

  extent(at: number, length: number): Extent {
    const { start, length: run, offset, ...rest } = this.holding(at);
    const place = offset === undefined ? {} : { offset: offset + at - start };
    return { ...rest, ...place, start: at, length: Math.min(start + run - at, length) };
  }

  read(into: Uint8Array, at: number): void {
    this.reads.push([at, into.length]);
    for (let done = 0; done < into.length; ) {
      const { start, length, byte } = this.holding(at + done);
      const end = Math.min(into.length, start + length - at);
      into.fill(byte, done, end);
      done = end;
    }
  }

  private holding(at: number): Extent & { readonly byte: number } {
    const found = this.extents.find(({ start, length }) => at >= start && at < start + length);
    if (found === undefined) throw new RangeError(`${at} is outside the disk`);
    return found;
  }
}

/** All bytes of a small disk. */
export function contentOf(disk: ComparedDisk): Buffer {
  const bytes = Buffer.alloc(disk.size);
  disk.read(bytes, 0);
  return bytes;
}
