import type { OpenContext } from '../../image/format.js';
import type { Health } from '../../image/health.js';
import { ALONE } from '../../image/sharing.js';
import { type Table, TableCache } from '../../image/table-cache.js';
import type { Storage } from '../../storage/storage.js';
import type { Header } from './header.js';
import { bitRun, setBits } from './layout.js';

/** Read and kept at once: the bits of 128 MiB of sectors of 512 bytes. */
const PIECE_BYTES = 32 * 1024;

/** Which sectors lie in the image: its only table, read in pieces. */
export class Bitmap {
  private readonly cache: TableCache;
  private readonly table: Table;

  constructor(storage: Storage, header: Header, { limits, sharing }: OpenContext, health: Health) {
    this.cache = new TableCache(PIECE_BYTES, limits.cacheBytes, sharing ?? ALONE, health);
    this.table = { storage, file: 0, at: header.bitmapAt, bytes: header.bitmapBytes, what: 'bitmap' };
  }

  /** Whether the sector lies in the image, and how many from it on, at most `most`, are as it is in one piece. */
  run(sector: number, most: number): { readonly set: boolean; readonly count: number } {
    const { bytes, from } = this.cache.piece(this.table, Math.floor(sector / 8));
    const first = sector - from * 8;
    return bitRun(bytes, first, Math.min(bytes.length * 8, first + most));
  }

  /** As `run`, for who looks at whole disks: where the host file has a hole, no sector lies in the image. */
  longRun(sector: number, most: number): { readonly set: boolean; readonly count: number } {
    const { set, count } = this.run(sector, most);
    const next = (sector + count) / 8;
    if (set || count === most || next % PIECE_BYTES !== 0) return { set, count };
    const { data, length } = this.table.storage.extent(this.table.at + next);
    return { set, count: data ? count : Math.min(most, count + length * 8) };
  }

  /** Says of `count` sectors that they lie in the image. Throws what a table that cannot be written throws. */
  set(first: number, count: number): void {
    const end = first + count;
    for (let sector = first; sector < end; ) {
      const within = Math.floor(sector / 8);
      const piece = this.cache.piece(this.table, within);
      const last = Math.min(end, (piece.from + piece.bytes.length) * 8);
      const bytes = piece.bytes.slice(within - piece.from, Math.ceil(last / 8) - piece.from);
      const copy = Buffer.from(bytes);
      setBits(copy, sector - within * 8, last - within * 8);
      this.cache.write(this.table, within, copy);
      sector = last;
    }
  }

  /** Says that no sector lies in the image. Throws what a table that cannot be written throws. */
  reset(): void {
    const { storage, at, bytes: length } = this.table;
    for (let from = 0; from < length; ) {
      const { data, length: run } = storage.extent(at + from);
      const { bytes } = this.cache.piece(this.table, from);
      if (data && bytes.some((byte) => byte !== 0)) this.cache.write(this.table, from, new Uint8Array(bytes.length));
      // The next piece, but for those that lie in a hole of the host file.
      const holes = data ? 0 : Math.floor(run / PIECE_BYTES);
      from += Math.max(1, holes) * PIECE_BYTES;
    }
  }

  clear(): void {
    this.cache.clear();
  }
}
