import { ImgfsError } from '../lib/errors.js';
import type { Storage, StorageExtent } from './storage.js';

/** Page size: small, so that a copy of an image that differs in one sector costs one page. */
const PAGE = 4096;

/** Pages by number, shared by storages and never changed again. */
type Pages = ReadonlyMap<number, Uint8Array>;

/**
 * A storage in memory, kept as pages; absent pages are holes. `copy()` shares all pages and costs nothing until
 * either side writes, so that thousands of crash states of one image cost little more than their differences.
 */
export class MemoryStorage implements Storage {
  readonly writable = true;
  private shared: Pages = new Map();
  /** Pages of its own over the shared ones; `undefined` is a hole. */
  private readonly own = new Map<number, Uint8Array | undefined>();

  constructor(
    readonly name = 'memory',
    private length = 0,
    /** As a storage without a cache above the medium would say. */
    readonly unbuffered = false,
  ) {}

  /** A storage holding a copy of `bytes`. */
  static from(bytes: Uint8Array, name = 'memory', unbuffered = false): MemoryStorage {
    const storage = new MemoryStorage(name, 0, unbuffered);
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
      const page = this.page((at + done - within) / PAGE);
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
      this.ownPage((at + done - within) / PAGE).set(from.subarray(done, done + step), within);
      done += step;
    }
    this.length = Math.max(this.length, at + from.length);
  }

  flush(): void {}

  resize(size: number): void {
    if (!Number.isSafeInteger(size) || size < 0) throw new ImgfsError('limit', `${this.name}: bad size ${size}`);
    if (size < this.length) {
      const within = size % PAGE;
      const last = (size - within) / PAGE;
      if (within > 0 && this.page(last) !== undefined) this.ownPage(last).fill(0, within);
      for (const index of this.indices()) if (index * PAGE >= size) this.drop(index);
    }
    this.length = size;
  }

  discard(at: number, length: number): void {
    const end = Math.min(at + length, this.length);
    for (let from = at; from < end; ) {
      const within = from % PAGE;
      const step = Math.min(PAGE - within, end - from);
      const index = (from - within) / PAGE;
      if (step === PAGE) this.drop(index);
      else if (this.page(index) !== undefined) this.ownPage(index).fill(0, within, within + step);
      from += step;
    }
  }

  allocate(at: number, length: number): void {
    if (length <= 0) return;
    for (let from = at - (at % PAGE); from < at + length; from += PAGE) this.ownPage(from / PAGE);
    this.length = Math.max(this.length, at + length);
  }

  extent(at: number): StorageExtent {
    const within = at % PAGE;
    const first = (at - within) / PAGE;
    const data = this.page(first) !== undefined;
    const next = data ? this.firstHole(first) : this.firstPage(first);
    return { data, length: Math.min(next * PAGE, this.length) - at };
  }

  allocated(): number {
    return [...this.indices()].length * PAGE;
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
    if (this.own.size > 0) {
      const pages = new Map(this.shared);
      for (const [index, page] of this.own) {
        if (page === undefined) pages.delete(index);
        else pages.set(index, page);
      }
      this.shared = pages;
      this.own.clear();
    }
    const twin = new MemoryStorage(this.name, this.length, this.unbuffered);
    twin.shared = this.shared;
    return twin;
  }

  /** The same for storages of equal content, whatever their pages; different for others, as far as 64 bits go. */
  fingerprint(): string {
    let [low, high] = printOf(this.shared);
    for (const [index, page] of this.own) {
      const [oldLow, oldHigh] = pagePrint(index, this.shared.get(index));
      const [newLow, newHigh] = pagePrint(index, page);
      low = wrapped(low - oldLow + newLow);
      high = wrapped(high - oldHigh + newHigh);
    }
    return `${this.length}.${low}.${high}`;
  }

  private page(index: number): Uint8Array | undefined {
    return this.own.has(index) ? this.own.get(index) : this.shared.get(index);
  }

  private drop(index: number): void {
    if (this.shared.has(index)) this.own.set(index, undefined);
    else this.own.delete(index);
  }

  /** The pages there are, in no order. */
  private *indices(): Generator<number> {
    for (const index of this.shared.keys()) if (!this.own.has(index)) yield index;
    for (const [index, page] of this.own) if (page !== undefined) yield index;
  }

  private firstHole(after: number): number {
    let page = after + 1;
    while (this.page(page) !== undefined) page++;
    return page;
  }

  /** Looks at the pages there are, never at the hole between them: it may be exabytes long. */
  private firstPage(after: number): number {
    let first = Number.POSITIVE_INFINITY;
    for (const page of this.indices()) if (page > after && page < first) first = page;
    return first;
  }

  private ownPage(index: number): Uint8Array {
    const own = this.own.get(index);
    if (own !== undefined) return own;
    const mine = this.page(index)?.slice() ?? new Uint8Array(PAGE);
    this.own.set(index, mine);
    return mine;
  }
}

type Print = readonly [low: number, high: number];

/** Shared pages never change again: each set of them is looked at once. */
const prints = new WeakMap<Pages, Print>();

function printOf(pages: Pages): Print {
  const known = prints.get(pages);
  if (known !== undefined) return known;
  let [low, high] = [0, 0];
  for (const [index, page] of pages) {
    const [pageLow, pageHigh] = pagePrint(index, page);
    low = wrapped(low + pageLow);
    high = wrapped(high + pageHigh);
  }
  prints.set(pages, [low, high]);
  return [low, high];
}

/** What a page adds to the fingerprint: nothing where it is a hole or all zeros. */
function pagePrint(index: number, page: Uint8Array | undefined): Print {
  if (page === undefined) return [0, 0];
  const [first, second] = pageHash(page);
  if (first === ZERO_PAGE[0] && second === ZERO_PAGE[1]) return [0, 0];
  return [Math.imul(first + index, 0x85ebca6b), Math.imul(second + index, 0xc2b2ae35)];
}

/** Two polynomials over the page's words. */
function pageHash(page: Uint8Array): Print {
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

const ZERO_PAGE = pageHash(new Uint8Array(PAGE));
