import type { PlainView } from '../../image/encrypted.js';
import type { OpenContext } from '../../image/format.js';
import { Health } from '../../image/health.js';
import type { Limits } from '../../image/limits.js';
import { ALONE, type Stamps } from '../../image/sharing.js';
import { type Table, TableCache, type TablePiece } from '../../image/table-cache.js';
import { corrupt } from '../../lib/errors.js';
import type { Storage } from '../../storage/storage.js';
import { type Header, readHeader } from './header.js';
import { ENTRY_BYTES, entryOffset } from './layout.js';

/** The stamp of the header, beyond those of all places in the file. */
const HEADER_STAMP = 2 ** 45;

/** The L1 table as it is used: where, and for how many entries. Larger than the disk needs while that is resized. */
export interface L1 extends Table {
  readonly entries: number;
}

/** One opened image: its header and its tables. Opening reads the header only; tables are read in pieces. */
export class Volume {
  readonly limits: Limits;
  readonly health: Health;
  readonly stamps: Stamps;
  /** In pieces of the size of an L2 table, which is 64 KiB at most. */
  readonly cache: TableCache;
  /** Of an encrypted image: what its clusters hold in plain. Closed with the image. */
  view: PlainView | undefined;
  private current: Header;
  private currentL1: L1;
  private stamp: number;

  constructor(
    readonly storage: Storage,
    { limits, sharing }: OpenContext,
  ) {
    this.limits = limits;
    this.stamps = sharing ?? ALONE;
    this.health = new Health(sharing);
    this.stamp = this.stamps.stamp(HEADER_STAMP);
    this.current = readHeader(storage, limits);
    this.currentL1 = this.l1At(this.current.l1At, this.current.l1Entries);
    this.cache = new TableCache(this.l2Bytes, limits.cacheBytes, this.stamps, this.health);
  }

  /** As the file has it, whichever thread changed it last. */
  get header(): Header {
    this.catchUp();
    return this.current;
  }

  get l1(): L1 {
    this.catchUp();
    return this.currentL1;
  }

  /** The header in the file is this one now. Other threads read it again. */
  adopt(header: Header, l1Entries = header.l1Entries): void {
    this.stamps.bump(HEADER_STAMP);
    this.stamp = this.stamps.stamp(HEADER_STAMP);
    this.current = header;
    this.currentL1 = this.l1At(header.l1At, l1Entries);
  }

  /** What clusters at host offset `host`, which hold the guest's bytes from `guest` on, are read and written through. */
  content(guest: number, host: number): Storage {
    // Sectors are encrypted under their guest's numbers.
    return this.view?.at({ origin: host - guest }) ?? this.storage;
  }

  l1At(at: number, entries: number): L1 {
    return { storage: this.storage, file: 0, at, bytes: entries * ENTRY_BYTES, entries, what: 'L1 table' };
  }

  get l2Bytes(): number {
    return this.current.l2Entries * ENTRY_BYTES;
  }

  /** Host offset of L2 table `index`; 0 for none. Throws `corrupt` where there can be none. */
  l2Offset(index: number): number {
    const piece = this.cache.piece(this.l1, index * ENTRY_BYTES);
    const offset = offsetIn(piece, index);
    if (Number.isNaN(offset)) throw corrupt(`${this.storage.name}: L1 entry ${index} does not point to an L2 table`);
    return offset;
  }

  /** How many L1 entries from `index` on are empty, looked for up to `most` and within one piece of the table. */
  emptyTables(index: number, most: number): number {
    const piece = this.cache.piece(this.l1, index * ENTRY_BYTES);
    const end = Math.min(endOf(piece), index + most);
    let n = index;
    while (n < end && offsetIn(piece, n) === 0) n++;
    return n - index;
  }

  /** Every L2 table there is, in the guest's order; NaN as the offset of one that lies nowhere. Throws `io`. */
  *tables(): Generator<{ readonly index: number; readonly offset: number }> {
    const { l1, storage, cache } = this;
    for (let index = 0; index < l1.entries; ) {
      // The L1 of a huge and almost empty disk is a hole of the host file.
      const { data, length } = storage.extent(l1.at + index * ENTRY_BYTES);
      const holes = data ? 0 : Math.floor(length / ENTRY_BYTES);
      const piece = holes > 0 ? undefined : cache.piece(l1, index * ENTRY_BYTES);
      if (piece === undefined) index += holes;
      else
        for (const end = endOf(piece); index < end; index++) {
          const offset = offsetIn(piece, index);
          if (offset !== 0) yield { index, offset };
        }
    }
  }

  /** The L2 table at a host offset, as the cache and messages know it. */
  l2At(at: number): Table {
    return { storage: this.storage, file: 0, at, bytes: this.l2Bytes, what: 'L2 table' };
  }

  /** The whole L2 table at a host offset. Throws `truncated` where the file ends inside it. */
  l2(at: number): TablePiece {
    return this.cache.piece(this.l2At(at), 0);
  }

  private catchUp(): void {
    const stamp = this.stamps.stamp(HEADER_STAMP);
    if (stamp === this.stamp) return;
    this.current = readHeader(this.storage, this.limits);
    this.currentL1 = this.l1At(this.current.l1At, this.current.l1Entries);
    this.stamp = stamp;
  }
}

/** What entry `index` of a table says, which lies in this piece of it. */
function offsetIn({ bytes, from }: TablePiece, index: number): number {
  const at = index * ENTRY_BYTES - from;
  return entryOffset(bytes.readUInt32BE(at), bytes.readUInt32BE(at + 4));
}

/** The index behind the piece's last entry. */
function endOf({ bytes, from }: TablePiece): number {
  return (from + bytes.length) / ENTRY_BYTES;
}
