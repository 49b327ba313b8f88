import type { ImageInfo } from '../../image/image.js';
import type { Layer, Mapping } from '../../image/mapping.js';
import { corrupt, type ImgfsError } from '../../lib/errors.js';
import { CompressedCluster, Unpacker } from './compressed.js';
import type { Header } from './header.js';
import { decodePacked, ENTRY_BYTES, entryOffset, isCompressed, isEmpty, SECTOR } from './layout.js';
import type { Volume } from './volume.js';

/** The disk as its tables have it: L1, L2, cluster. */
export class QcowLayer implements Layer {
  readonly blockSize: number;
  readonly info: ImageInfo;
  private readonly unpacker: Unpacker;

  /** Owns it. */
  constructor(private readonly volume: Volume) {
    const { header, storage } = volume;
    this.blockSize = header.clusterSize;
    this.info = infoOf(header);
    this.unpacker = new Unpacker(storage);
  }

  get size(): number {
    return this.volume.header.size;
  }

  map(at: number, length: number): Mapping {
    const { volume, blockSize } = this;
    const { tableSpan } = volume.header;
    const index = Math.floor(at / tableSpan);
    const table = volume.l2Offset(index);
    const inTable = at - index * tableSpan;
    if (table === 0) return { kind: 'hole', length: this.emptyTables(index, tableSpan - inTable, length) };
    const first = Math.floor(inTable / blockSize);
    const { bytes } = volume.l2(table);
    const within = inTable - first * blockSize;
    const [high, low] = [bytes.readUInt32BE(first * ENTRY_BYTES), bytes.readUInt32BE(first * ENTRY_BYTES + 4)];
    if (isCompressed(high)) {
      if (volume.view !== undefined) throw this.invalid(at);
      return { kind: 'packed', length: Math.min(blockSize - within, length), unit: this.packed(high, low, within) };
    }
    const hole = isEmpty(high, low);
    const host = entryOffset(high, low);
    if (Number.isNaN(host) || host % SECTOR !== 0) throw this.invalid(at);
    const run = this.run(bytes, first, { host, hole, enough: Math.ceil((within + length) / blockSize) });
    const covered = Math.min(run * blockSize - within, length);
    if (hole) return { kind: 'hole', length: covered };
    const offset = host + within;
    return { kind: 'data', length: covered, storage: volume.content(at, offset), offset, ours: true };
  }

  hostBytes(): number {
    return this.volume.storage.allocated();
  }

  close(): void {
    const { view, cache, storage } = this.volume;
    view?.close();
    cache.clear();
    storage.close();
  }

  /** Guest bytes without a table: `rest` in the first one's span, and what those after it would map. */
  private emptyTables(index: number, rest: number, length: number): number {
    const { l1, header } = this.volume;
    const most = Math.min(l1.entries - index - 1, Math.ceil(Math.max(0, length - rest) / header.tableSpan));
    const more = most > 0 ? this.volume.emptyTables(index + 1, most) : 0;
    return Math.min(rest + more * header.tableSpan, length);
  }

  /** How many entries from `first` on are holes like it, or lie one after the other on the host; about `enough`. */
  private run(bytes: Buffer, first: number, { host, hole, enough }: Wanted): number {
    const end = Math.min(bytes.length / ENTRY_BYTES, first + enough);
    let n = first + 1;
    for (let next = host + this.blockSize; n < end; n++, next += this.blockSize) {
      const high = bytes.readUInt32BE(n * ENTRY_BYTES);
      const low = bytes.readUInt32BE(n * ENTRY_BYTES + 4);
      if (hole ? !isEmpty(high, low) : entryOffset(high, low) !== next) break;
    }
    return n - first;
  }

  private packed(high: number, low: number, skip: number): CompressedCluster {
    const { volume, blockSize } = this;
    const what = `${volume.storage.name}: the offset of a compressed cluster`;
    const place = decodePacked(high, low, volume.header.clusterBits, what);
    return new CompressedCluster(blockSize, skip, place, this.unpacker);
  }

  private invalid(at: number): ImgfsError {
    return corrupt(`${this.volume.storage.name}: the L2 entry for guest offset ${at} is invalid`);
  }
}

interface Wanted {
  readonly host: number;
  readonly hole: boolean;
  readonly enough: number;
}

/** What `info` prints: qemu-img has nothing specific to say of the format. */
function infoOf({ clusterSize, encryption, backing }: Header): ImageInfo {
  return {
    format: 'qcow',
    clusterSize,
    dirty: false,
    encrypted: encryption !== undefined,
    compressed: false,
    ...(backing === undefined ? {} : { backing: { name: backing.name } }),
  };
}
