import type { ImageInfo } from '../../image/image.js';
import type { Layer, Mapping } from '../../image/mapping.js';
import type { Storage } from '../../storage/storage.js';
import type { Bitmap } from './bitmap.js';
import type { Header } from './header.js';

/** Sector by sector: here or below. Neighbours lie side by side, so that runs of any length are one read. */
export class CowLayer implements Layer {
  readonly size: number;
  readonly blockSize: number;
  readonly info: ImageInfo;

  constructor(
    private readonly storage: Storage,
    private readonly header: Header,
    private readonly bitmap: Bitmap,
  ) {
    this.size = header.size;
    this.blockSize = header.sectorSize;
    this.info = infoOf(header);
  }

  map(at: number, length: number): Mapping {
    return this.mapped(at, length, 'run');
  }

  mapInDetail(at: number, length: number): Mapping {
    return this.mapped(at, length, 'longRun');
  }

  hostBytes(): number {
    return this.storage.allocated();
  }

  close(): void {
    this.bitmap.clear();
    this.storage.close();
  }

  private mapped(at: number, length: number, run: 'run' | 'longRun'): Mapping {
    const { blockSize, storage } = this;
    const sector = Math.floor(at / blockSize);
    const within = at - sector * blockSize;
    const { set, count } = this.bitmap[run](sector, Math.ceil((within + length) / blockSize));
    const covered = Math.min(length, count * blockSize - within);
    if (!set) return { kind: 'hole', length: covered };
    return { kind: 'data', length: covered, storage, offset: this.header.dataAt + at, ours: true };
  }
}

/** What QEMU printed, which knew nothing specific, and whose layout it is. */
function infoOf({ backing, layout }: Header): ImageInfo {
  return {
    format: 'cow',
    dirty: false,
    encrypted: false,
    compressed: false,
    ...(backing === undefined ? {} : { backing: { name: backing } }),
    specific: { type: 'cow', data: { layout: layout.variant } },
  };
}
