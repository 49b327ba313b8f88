import { LRUCache } from 'lru-cache';
import { checkTable, type Limits } from '../../image/limits.js';
import { bigEndianWords } from '../../lib/bits.js';
import { ImgfsError } from '../../lib/errors.js';
import { readTable, type Storage } from '../../storage/storage.js';
import { type Header, l1Claim } from './header.js';

/**
 * L2 tables are cached in pieces of at most this, as QEMU does: a 2 MiB table would cost a random read 2 MiB of
 * input and a quarter of the cache.
 */
const SLICE_BYTES = 64 * 1024;

/** Reads an L1 table as words (high, low per entry). Throws what `checkTable` throws. */
export function readL1(storage: Storage, limits: Limits, at: number, entries: number, header: Header): Uint32Array {
  const bytes = new Uint8Array(checkTable(storage, l1Claim(at, entries, header.clusterSize, limits)));
  readTable(storage, bytes, at, 'L1 table');
  return bigEndianWords(bytes);
}

/** Slices of L2 tables, least recently used out first, within `limits.cacheBytes`. Shared by all layers of an image. */
export class L2Cache {
  /** L2 entries per slice. */
  readonly entries: number;
  /** 32-bit words per L2 entry: 2, or 4 with subclusters. */
  readonly words: number;
  private readonly sliceBytes: number;
  private readonly slices: LRUCache<number, Uint32Array>;
  private lastAt = -1;
  private last: Uint32Array = new Uint32Array();

  constructor(
    private readonly storage: Storage,
    header: Header,
    limits: Limits,
  ) {
    this.words = header.extended ? 4 : 2;
    this.sliceBytes = Math.min(header.clusterSize, SLICE_BYTES);
    this.entries = this.sliceBytes / (4 * this.words);
    this.slices = new LRUCache({ max: Math.max(2, Math.floor(limits.cacheBytes / this.sliceBytes)) });
  }

  /**
   * The slice with entry `index` of the table at host offset `table` (aligned). The array stays the cache's.
   * Throws `truncated` when the file ends inside it; nothing is cached then.
   */
  slice(table: number, index: number): Uint32Array {
    const at = table + Math.floor(index / this.entries) * this.sliceBytes;
    return at === this.lastAt ? this.last : this.find(at);
  }

  clear(): void {
    this.slices.clear();
    this.lastAt = -1;
    this.last = new Uint32Array();
  }

  private find(at: number): Uint32Array {
    const slice = this.slices.get(at) ?? this.load(at);
    this.lastAt = at;
    this.last = slice;
    return slice;
  }

  private load(at: number): Uint32Array {
    const bytes = new Uint8Array(this.sliceBytes);
    if (this.storage.read(bytes, at) < bytes.length) {
      throw new ImgfsError('truncated', `${this.storage.name}: the image ends inside the L2 table at ${at}`);
    }
    const slice = bigEndianWords(bytes);
    this.slices.set(at, slice);
    return slice;
  }
}
