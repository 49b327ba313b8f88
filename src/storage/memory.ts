import { ImgfsError } from '../lib/errors.js';
import type { Storage, StorageExtent } from './storage.js';

/** Page size: small, so that a copy of an image that differs in one sector costs one page. */
const PAGE = 4096;

/**
 * A storage in memory, kept as a map of pages; absent pages are holes. `copy()` shares pages until either side
 * writes, so that thousands of crash states of one image cost little more than their differences.
 */
export class MemoryStorage implements Storage {
  readonly writable = true;
  private pages = new Map<number, Uint8Array>();
  private shared = new Set<number>();

  constructor(
    readonly name = 'memory',
    private length = 0,
  ) {}

  /** A storage holding a copy of `bytes`. */
  static from(bytes: Uint8Array, name = 'memory'): MemoryStorage {
    const storage = new MemoryStorage(name);
    storage.write(bytes, 0);
    return storage;
  }

  size(): number {
    return this.length;
  }

  read(into: Uint8Array, at: number): number {
    const wanted = Math.max(0, Math.min(into.length, this.length - at));
    for (let done = 0; done < wanted; ) {
      const within = (at + done) % PAGE;
      const step = Math.min(PAGE - within, wanted - done);
      const page = this.pages.get((at + done - within) / PAGE);
      if (page === undefined) into.fill(0, done, done + step);
      else into.set(page.subarray(within, within + step), done);
      done += step;
    }
    return wanted;
  }

  write(from: Uint8Array, at: number): void {
    if (from.length === 0) return;
    for (let done = 0; done < from.length; ) {
      const within = (at + done) % PAGE;
      const step = Math.min(PAGE - within, from.length - done);
      this.own((at + done - within) / PAGE).set(from.subarray(done, done + step), within);
      done += step;
    }
    this.length = Math.max(this.length, at + from.length);
  }

  flush(): void {}

  resize(size: number): void {
    if (!Number.isSafeInteger(size) || size < 0) throw new ImgfsError('limit', `${this.name}: bad size ${size}`);
    if (size < this.length) {
      const within = size % PAGE;
      if (within > 0 && this.pages.has((size - within) / PAGE)) this.own((size - within) / PAGE).fill(0, within);
      for (const page of this.pages.keys()) if (page * PAGE >= size) this.pages.delete(page);
    }
    this.length = size;
  }

  discard(at: number, length: number): void {
    const end = Math.min(at + length, this.length);
    for (let from = at; from < end; ) {
      const within = from % PAGE;
      const step = Math.min(PAGE - within, end - from);
      const index = (from - within) / PAGE;
      if (step === PAGE) this.pages.delete(index);
      else if (this.pages.has(index)) this.own(index).fill(0, within, within + step);
      from += step;
    }
  }

  extent(at: number): StorageExtent {
    const within = at % PAGE;
    const first = (at - within) / PAGE;
    const data = this.pages.has(first);
    const next = data ? this.firstHole(first) : this.firstPage(first);
    return { data, length: Math.min(next * PAGE, this.length) - at };
  }

  allocated(): number {
    return this.pages.size * PAGE;
  }

  close(): void {}

  /** All its bytes as one array. */
  bytes(): Buffer {
    const all = Buffer.alloc(this.length);
    this.read(all, 0);
    return all;
  }

  /** An independent storage with the same content; pages are shared until written. */
  copy(): MemoryStorage {
    const twin = new MemoryStorage(this.name, this.length);
    twin.pages = new Map(this.pages);
    this.shared = new Set(this.pages.keys());
    twin.shared = new Set(this.pages.keys());
    return twin;
  }

  /** The same for storages of equal content, whatever their pages; different for others, as far as 64 bits go. */
  fingerprint(): string {
    let low = wrapped(this.length);
    let high = Math.floor(this.length / 2 ** 32);
    for (const [index, page] of this.pages) {
      const [first, second] = this.shared.has(index) ? pageHash(page) : hashOf(page);
      if (first === ZERO_PAGE[0] && second === ZERO_PAGE[1]) continue;
      low = wrapped(low + Math.imul(first + index, 0x85ebca6b));
      high = wrapped(high + Math.imul(second + index, 0xc2b2ae35));
    }
    return `${low}.${high}`;
  }

  private firstHole(after: number): number {
    let page = after + 1;
    while (this.pages.has(page)) page++;
    return page;
  }

  /** Looks at the pages there are, never at the hole between them: it may be exabytes long. */
  private firstPage(after: number): number {
    let first = Number.POSITIVE_INFINITY;
    for (const page of this.pages.keys()) if (page > after && page < first) first = page;
    return first;
  }

  private own(index: number): Uint8Array {
    const page = this.pages.get(index);
    if (page !== undefined && !this.shared.has(index)) return page;
    const mine = page === undefined ? new Uint8Array(PAGE) : page.slice();
    this.pages.set(index, mine);
    this.shared.delete(index);
    return mine;
  }
}

/** Shared pages are never written again, so each is hashed once. */
const hashes = new WeakMap<Uint8Array, readonly [number, number]>();

function pageHash(page: Uint8Array): readonly [number, number] {
  const known = hashes.get(page);
  if (known !== undefined) return known;
  const fresh = hashOf(page);
  hashes.set(page, fresh);
  return fresh;
}

/** Two polynomials over the page's words. */
function hashOf(page: Uint8Array): readonly [number, number] {
  const words = new Uint32Array(page.buffer, page.byteOffset, PAGE / 4);
  let first = 1;
  let second = 1;
  for (const word of words) {
    first = wrapped(Math.imul(first, 0x01000193) + word);
    second = wrapped(Math.imul(second, 0x9e3779b1) + word);
  }
  return [first, second];
}

/** As a signed 32-bit number, so that sums do not depend on their order. */
function wrapped(value: number): number {
  return Math.imul(value, 1);
}

const ZERO_PAGE = hashOf(new Uint8Array(PAGE));
