import { ImgfsError } from '../../../lib/errors.js';

/** Clusters per page. Small: a forged table may refer to clusters all over a huge sparse file. */
const PAGE = 1024;
const PAGE_BYTES = PAGE * 4;
const MAX_BYTES = 1024 ** 3;

/** How often each host cluster is referred to, for as many clusters as are. Grows with references, not with the file. */
export class Counts {
  private readonly pages = new Map<number, Uint32Array>();
  /** The page asked for last: references come in runs. */
  private latest: Uint32Array = new Uint32Array(0);
  private latestIndex = -1;
  private lastIndex = -1;

  /** One reference more to each of `count` clusters. Throws `limit` where that needs more memory than a check may take. */
  increment(first: number, count = 1): void {
    for (let cluster = first; cluster < first + count; ) {
      const index = Math.floor(cluster / PAGE);
      const page = this.page(index);
      const from = cluster - index * PAGE;
      const to = Math.min(PAGE, from + first + count - cluster);
      for (let n = from; n < to; n++) page[n]! += 1;
      cluster += to - from;
    }
  }

  /** Takes one reference back. */
  decrement(cluster: number): void {
    const index = Math.floor(cluster / PAGE);
    this.page(index)[cluster - index * PAGE]! -= 1;
  }

  at(cluster: number): number {
    const index = Math.floor(cluster / PAGE);
    return (index === this.latestIndex ? this.latest : this.found(index))?.[cluster - index * PAGE] ?? 0;
  }

  /** The highest cluster with a count, or about where it would be; -1 where there is none. */
  highest(): number {
    const page = this.pages.get(this.lastIndex);
    return page === undefined ? -1 : this.lastIndex * PAGE + page.findLastIndex((count) => count > 0);
  }

  /** Which groups of `size` clusters, a power of two, have a cluster with a count. */
  groups(size: number): ReadonlySet<number> {
    const found = new Set<number>();
    const within = Math.min(size, PAGE);
    for (const [index, page] of this.pages) {
      for (let from = 0; from < PAGE; from += within) {
        if (page.subarray(from, from + within).some((count) => count !== 0)) {
          found.add(Math.floor((index * PAGE + from) / size));
        }
      }
    }
    return found;
  }

  private found(index: number): Uint32Array | undefined {
    const page = this.pages.get(index);
    if (page !== undefined) this.keep(index, page);
    return page;
  }

  private page(index: number): Uint32Array {
    const found = index === this.latestIndex ? this.latest : this.found(index);
    if (found !== undefined) return found;
    if (this.pages.size * PAGE_BYTES >= MAX_BYTES) {
      throw new ImgfsError('limit', 'the image refers to more clusters than can be checked at once');
    }
    const page = new Uint32Array(PAGE);
    this.pages.set(index, page);
    this.lastIndex = Math.max(this.lastIndex, index);
    this.keep(index, page);
    return page;
  }

  private keep(index: number, page: Uint32Array): void {
    this.latest = page;
    this.latestIndex = index;
  }
}
