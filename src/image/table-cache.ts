import { LRUCache } from 'lru-cache';
import { asBuffer, roundDown, roundUp } from '../lib/bits.js';
import { readTable, type Storage } from '../storage/storage.js';
import type { Health } from './health.js';
import { rewrite } from './rewrite.js';
import type { Stamps } from './sharing.js';

/** What a medium stores whole or not at all. */
const SECTOR = 512;

/** Sectors of a file that can be told apart; twice that and more of them than any file has. */
const FILE_SECTORS = 2 ** 40;

/** A table (block map, grain table, L2 table) in a file. Entries are aligned to their own size in the file. */
export interface Table {
  readonly storage: Storage;
  /** Tells the storages of one image apart; 0 where there is one. */
  readonly file: number;
  readonly at: number;
  readonly bytes: number;
  /** What messages call it. */
  readonly what: string;
}

/** A piece of a table as the file holds it. Only read, and only until the next look at the cache. */
export interface TablePiece {
  readonly table: Table;
  /** Where in the table it begins. */
  readonly from: number;
  readonly bytes: Buffer;
  stamp: number;
}

/**
 * Pieces of tables, least recently used out first, within a number of bytes. Written through in whole sectors, and
 * believed only while no other thread has written them.
 */
export class TableCache {
  private readonly pieces: LRUCache<number, TablePiece>;
  private last: TablePiece | undefined;

  constructor(
    private readonly pieceBytes: number,
    cacheBytes: number,
    private readonly stamps: Stamps,
    private readonly health: Health,
  ) {
    this.pieces = new LRUCache({ max: Math.max(2, Math.floor(cacheBytes / pieceBytes)) });
  }

  /** The piece that holds byte `within` of the table. Throws `truncated` where the file ends inside it. */
  piece(table: Table, within: number): TablePiece {
    const from = within - (within % this.pieceBytes);
    const at = table.at + from;
    const { last } = this;
    if (last !== undefined && last.from === from && isSame(last.table, table) && this.isCurrent(last)) return last;
    const kept = this.pieces.get(keyOf(table.file, at));
    const current = kept?.from === from && isSame(kept.table, table) && this.isCurrent(kept);
    this.last = current ? kept : this.load(table, from);
    return this.last;
  }

  /** Writes bytes of the table from its byte `within` on, a piece at a time. A piece that fails is left as it was. */
  write(table: Table, within: number, bytes: Uint8Array): void {
    for (let done = 0; done < bytes.length; ) {
      const piece = this.piece(table, within + done);
      const from = within + done - piece.from;
      const step = Math.min(piece.bytes.length - from, bytes.length - done);
      this.writePiece(piece, from, bytes.subarray(done, done + step));
      done += step;
    }
  }

  /** Forgets everything: tables moved. */
  clear(): void {
    this.pieces.clear();
    this.last = undefined;
  }

  private writePiece(piece: TablePiece, from: number, bytes: Uint8Array): void {
    const { storage } = piece.table;
    const at = piece.table.at + piece.from;
    const first = Math.max(0, roundDown(at + from, SECTOR) - at);
    const end = Math.min(piece.bytes.length, roundUp(at + from + bytes.length, SECTOR) - at);
    const old = piece.bytes.subarray(first, end);
    const next = Buffer.from(old);
    next.set(bytes, from - first);
    rewrite(storage, { at: at + first, bytes: next, old }, this.health);
    piece.bytes.set(bytes, from);
    const key = keyOf(piece.table.file, at);
    this.stamps.bump(key);
    piece.stamp = this.stamps.stamp(key);
  }

  private isCurrent(piece: TablePiece): boolean {
    return piece.stamp === this.stamps.stamp(keyOf(piece.table.file, piece.table.at + piece.from));
  }

  private load(table: Table, from: number): TablePiece {
    const key = keyOf(table.file, table.at + from);
    const stamp = this.stamps.stamp(key);
    const bytes = asBuffer(new Uint8Array(Math.min(this.pieceBytes, table.bytes - from)));
    readTable(table.storage, bytes, table.at + from, table.what);
    const piece = { table, from, bytes, stamp };
    this.pieces.set(key, piece);
    return piece;
  }
}

/** Also the key of its stamp. */
function keyOf(file: number, at: number): number {
  return file * FILE_SECTORS + Math.floor(at / SECTOR);
}

function isSame(a: Table, b: Table): boolean {
  return a === b || (a.at === b.at && a.file === b.file && a.bytes === b.bytes);
}
