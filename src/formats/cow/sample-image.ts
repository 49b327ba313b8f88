/** Recipes for COW images of every layout, built purely in memory, for tests and the fuzzer. */
import { geometryOf } from './header.js';
import { COW_BITMAP, encodeHeader, type Layout, SECTOR, setBits } from './layout.js';

export interface SampleOptions {
  readonly layout: Layout;
  /** Guest disk size in bytes. */
  readonly size: number;
  readonly backing?: string;
  /** The backing file's date, in seconds since 1970. */
  readonly modified?: number;
  readonly sectorSize?: number;
  /** Version 3; that of User Mode Linux is a page. */
  readonly alignment?: number;
}

/** An image in the making. Misuse throws RangeError: recipes are code, not input. */
export class SampleImage {
  private readonly disk: Uint8Array;
  private readonly sectorSize: number;
  private readonly written = new Set<number>();

  constructor(private readonly options: SampleOptions) {
    this.disk = new Uint8Array(options.size);
    this.sectorSize = options.sectorSize ?? SECTOR;
  }

  /** Stores bytes from a sector's beginning on; the rest of the last sector is zeros. */
  write(at: number, bytes: Uint8Array): this {
    if (at % this.sectorSize !== 0) throw new RangeError(`${at} is not aligned`);
    this.disk.set(bytes, at);
    for (let done = 0; done < bytes.length; done += this.sectorSize) this.written.add((at + done) / this.sectorSize);
    return this;
  }

  /** What the guest reads, with zeros where nothing is stored. */
  plain(): Uint8Array {
    return this.disk.slice();
  }

  /** The image file: it ends where the last sector stored does, or with the bitmap. */
  build(): Buffer {
    const { layout, backing = '', modified = 0, alignment = 4096 } = this.options;
    const own = layout.alignment === undefined ? undefined : alignment;
    const kind = layout.kind === undefined ? undefined : COW_BITMAP;
    const { size } = this.options;
    const fields = { name: Buffer.from(backing), modified, size, sectorSize: this.sectorSize, alignment: own, kind };
    const { bitmapAt, bitmapBytes, dataAt } = geometryOf(layout, fields);
    const sectors = [...this.written].sort((a, b) => a - b);
    const last = sectors.at(-1);
    const image = Buffer.alloc(last === undefined ? bitmapAt + bitmapBytes : dataAt + (last + 1) * this.sectorSize);
    image.set(encodeHeader(layout, fields));
    const bitmap = image.subarray(bitmapAt, bitmapAt + bitmapBytes);
    for (const sector of sectors) {
      setBits(bitmap, sector, sector + 1);
      const at = sector * this.sectorSize;
      image.set(this.disk.subarray(at, at + this.sectorSize), dataAt + at);
    }
    return image;
  }
}
