import { roundUp } from '../../lib/bits.js';
import type { Storage } from '../../storage/storage.js';
import { BLOCK, encodeHeader, LONGEST_NAME, paxRecord, RECORD, TYPES } from './layout.js';

/**
 * Writes an archive into an empty storage: the same members in the same order make the same bytes. Names that a header
 * has no room for get one of pax before them.
 */
export class ArchiveWriter {
  private at = 0;

  constructor(private readonly storage: Storage) {}

  /** Sets a member of that size aside, and returns where its bytes belong: they may be written in any order, or later. */
  add(name: string, size: number): number {
    const length = Buffer.byteLength(name);
    if (length > LONGEST_NAME) {
      const record = paxRecord('path', name);
      this.storage.write(record, this.header('PaxHeader', record.length, TYPES.pax));
    }
    return this.header(cut(name), size, TYPES.file);
  }

  /** Ends the archive: what was not written within members reads as zeros. */
  end(): void {
    this.storage.resize(roundUp(this.at + 2 * BLOCK, RECORD));
  }

  private header(name: string, size: number, type: string): number {
    this.storage.write(encodeHeader(name, size, type), this.at);
    const data = this.at + BLOCK;
    this.at = data + roundUp(size, BLOCK);
    return data;
  }
}

/** Whole characters only. */
function cut(name: string): string {
  let kept = '';
  for (const character of name) {
    if (Buffer.byteLength(kept + character) > LONGEST_NAME) break;
    kept += character;
  }
  return kept;
}
