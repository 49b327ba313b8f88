import { ImgfsError } from '../../../lib/errors.js';

/** Clusters per page. Small: a forged table may refer to clusters all over a huge sparse file. */
const PAGE = 1024;
const PAGE_BYTES = PAGE * 4;
const MAX_BYTES = 1024 ** 3;

/** How often each host cluster is referred to, for as many clusters as are. Grows with references, not with the file. */
export class Counts {
  private readonly pages = new Map<number, Uint32Array>();

  /** Throws `limit` where the references need more memory than a check may take. */
  increment(cluster: number): void {
    const page = this.page(Math.floor(cluster / PAGE));
    page[cluster % PAGE]! += 1;
  }

  /** Takes one reference back. */
  decrement(cluster: number): void {
    this.page(Math.floor(cluster / PAGE))[cluster % PAGE]! -= 1;
  }

  at(cluster: number): number {
    return this.pages.get(Math.floor(cluster / PAGE))?.[cluster % PAGE] ?? 0;
  }

  /** The highest cluster with a count, or -1. */
  highest(): number {
    const last = Math.max(-1, ...this.pages.keys());
    const page = this.pages.get(last);
    return page === undefined ? -1 : last * PAGE + page.findLastIndex((count) => count > 0);
  }

  /** Every cluster that has a count, ascending. */
  *referred(): Generator<number> {
    for (const index of [...this.pages.keys()].sort((a, b) => a - b)) {
      const page = this.pages.get(index)!;
      for (let n = 0; n < PAGE; n++) if (page[n] !== 0) yield index * PAGE + n;
    }
  }

  private page(index: number): Uint32Array {
    let page = this.pages.get(index);
    if (page === undefined) {
      if (this.pages.size * PAGE_BYTES >= MAX_BYTES) {
        throw new ImgfsError('limit', 'the image refers to more clusters than can be checked at once');
      }
      page = new Uint32Array(PAGE);
      this.pages.set(index, page);
    }
    return page;
  }
}
