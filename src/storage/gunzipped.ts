import { LRUCache } from 'lru-cache';
import { GZIP_PAGE, type GzipIndex, indexGzip, Pages } from '../codec/gzip/gunzip.js';
import { ReadOnlyStorage } from './read-only.js';
import type { Storage, StorageExtent } from './storage.js';

/** Unpacked pages that are kept. */
const PAGES = 64;

/**
 * What a storage unpacks into by gzip, read-only. It is unpacked once at the beginning, to know how long it is and to note
 * places to go on from; a read then unpacks from the place before it. Owns the packed storage.
 */
export class GunzippedStorage extends ReadOnlyStorage {
  private readonly cache = new LRUCache<number, Uint8Array>({ max: PAGES });
  private readonly pages: Pages;

  /** Throws `corrupt` and `limit`; the packed storage is then still its maker's. */
  constructor(
    private readonly packed: Storage,
    readonly index: GzipIndex = indexGzip(packed),
  ) {
    super(packed.name, index.size);
    this.pages = new Pages(packed);
  }

  extent(at: number): StorageExtent {
    return { data: true, length: this.index.size - at };
  }

  allocated(): number {
    return this.packed.allocated();
  }

  protected readPiece(into: Uint8Array, at: number): number {
    const start = at - (at % GZIP_PAGE);
    const part = this.page(start).subarray(at - start, at - start + into.length);
    into.set(part);
    return part.length;
  }

  protected release(): void {
    this.cache.clear();
    this.packed.close();
  }

  private page(start: number): Uint8Array {
    const known = this.cache.get(start);
    if (known !== undefined) return known;
    const { pages } = this;
    const before = this.placeBefore(start);
    if (pages.at > start || pages.at < before.at) pages.seek(before);
    for (;;) {
      const here = pages.at;
      const page = pages.next();
      this.cache.set(here, page);
      if (here >= start || page.length < GZIP_PAGE) return here === start ? page : new Uint8Array();
    }
  }

  private placeBefore(at: number): GzipIndex['places'][number] {
    const { places } = this.index;
    let [from, to] = [0, places.length - 1];
    while (from < to) {
      const middle = Math.ceil((from + to) / 2);
      if ((places[middle]?.at ?? 0) <= at) from = middle;
      else to = middle - 1;
    }
    return places[from] as GzipIndex['places'][number];
  }
}
