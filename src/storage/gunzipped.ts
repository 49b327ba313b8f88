import { LRUCache } from 'lru-cache';
import { GZIP_PAGE, type GzipIndex, indexGzip, Pages } from '../codec/gzip/gunzip.js';
import { ImgfsError } from '../lib/errors.js';
import type { Storage, StorageExtent } from './storage.js';

/** Unpacked pages that are kept. */
const PAGES = 64;

/**
 * What a storage unpacks into by gzip, read-only. It is unpacked once at the beginning, to know how long it is and to note
 * places to go on from; a read then unpacks from the place before it. Owns the packed storage.
 */
export class GunzippedStorage implements Storage {
  readonly name: string;
  readonly writable = false;
  private readonly cache = new LRUCache<number, Uint8Array>({ max: PAGES });
  private readonly pages: Pages;

  /** Throws `corrupt` and `limit`; the packed storage is then still its maker's. */
  constructor(
    private readonly packed: Storage,
    readonly index: GzipIndex = indexGzip(packed),
  ) {
    this.name = packed.name;
    this.pages = new Pages(packed);
  }

  size(): number {
    return this.index.size;
  }

  read(into: Uint8Array, at: number): number {
    if (!(at >= 0)) throw new RangeError(`${this.name}: read at ${at}`);
    const wanted = Math.max(0, Math.min(into.length, this.index.size - at));
    for (let done = 0; done < wanted; ) {
      const here = at + done;
      const start = here - (here % GZIP_PAGE);
      const page = this.page(start);
      const part = page.subarray(here - start, here - start + wanted - done);
      if (part.length === 0) throw new ImgfsError('io', `${this.name}: the file changed while it was in use`);
      into.set(part, done);
      done += part.length;
    }
    return wanted;
  }

  extent(at: number): StorageExtent {
    return { data: true, length: this.index.size - at };
  }

  allocated(): number {
    return this.packed.allocated();
  }

  write(): never {
    throw this.readOnly();
  }

  flush(): void {}

  resize(): never {
    throw this.readOnly();
  }

  discard(): never {
    throw this.readOnly();
  }

  allocate(): never {
    throw this.readOnly();
  }

  close(): void {
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

  private readOnly(): ImgfsError {
    return new ImgfsError('read-only', `${this.name} is open read-only`);
  }
}
