/** Giving back the space of what reads as zeros. */
import type { Extent, Image } from '../image/image.js';
import { largeBuffer } from '../lib/aligned.js';
import { roundDown, roundUp } from '../lib/bits.js';

/** What is looked at together, but for units that are larger. */
const BLOCK = 2 * 1024 * 1024;
/** What is given back first of a run of units, to see whether anything is gained. */
const TRIAL = 64 * 1024;
/** The host gives space back in these. */
const PAGE = 4096;

/**
 * Finds whole units of an image that its own layer stores and that read as zeros, and makes them zeros that take no
 * space: above a backing image they stay zeros, and do not show it. What snapshots share stays theirs. The disk reads
 * the same at every moment, so it may end anywhere, killed or without power.
 */
export class Trim {
  /** Guest bytes that take space and need none. */
  found = 0;
  /** Of these, what could be given back. Some formats cannot say zeros, some hosts cannot take space back. */
  freed = 0;
  private readonly block: number;
  private readonly buffer: Buffer;

  constructor(
    private readonly image: Image,
    private readonly options: { readonly dryRun: boolean },
  ) {
    this.block = Math.max(BLOCK, image.blockSize);
    this.buffer = largeBuffer(this.block);
  }

  /**
   * A step at a time: yields guest bytes that are done; whoever stops asking has stopped it. At the end all is durable.
   * Throws what reading, writing and flushing throw.
   */
  *steps(): Generator<number> {
    const { image, block } = this;
    const { blockSize, size } = image;
    for (let at = 0; at < size; ) {
      const extent = image.extent(at, size - at);
      const reach = at + extent.length;
      if (!takesSpace(extent, at, reach)) {
        // Up to the unit it ends in.
        at = reach === size ? size : Math.max(roundDown(reach, blockSize), at + 1);
        if (at % blockSize === 0 || at === size) {
          yield at;
          continue;
        }
      }
      const from = roundDown(at, blockSize);
      const to = Math.min(size, roundDown(from, block) + block);
      for (const run of this.runs(from, to)) this.give(run.from, run.to);
      at = to;
      yield at;
    }
    if (!this.options.dryRun) image.flush();
  }

  /** Neighbouring units of a block that are to be given back. */
  private *runs(from: number, to: number): Generator<{ readonly from: number; readonly to: number }> {
    const { blockSize } = this.image;
    let start: number | undefined;
    this.read(from, to);
    for (let unit = from; unit < to; unit += blockSize) {
      const end = Math.min(to, unit + blockSize);
      if (this.isWaste(unit, end, from)) start ??= unit;
      else if (start !== undefined) {
        yield { from: start, to: unit };
        start = undefined;
      }
    }
    if (start !== undefined) yield { from: start, to };
  }

  /** What this layer stores; what it does not is not looked at. */
  private read(from: number, to: number): void {
    for (let at = from; at < to; ) {
      const extent = this.image.extent(at, to - at);
      const end = at + extent.length;
      const bytes = this.buffer.subarray(at - from, end - from);
      if (isOwn(extent) && !extent.zero) this.image.read(bytes, at);
      else bytes.fill(0);
      at = end;
    }
  }

  private isWaste(unit: number, end: number, from: number): boolean {
    const bytes = this.buffer.subarray(unit - from, end - from);
    if (bytes[0] !== 0 || bytes.compare(bytes, 1, bytes.length, 0, bytes.length - 1) !== 0) return false;
    return this.anyTakesSpace(unit, end, true);
  }

  /** Whether any part of the range takes space; `whole`: and no other layer decides any of it. */
  private anyTakesSpace(from: number, to: number, whole: boolean): boolean {
    let found = false;
    for (let at = from; at < to; ) {
      const extent = this.image.extent(at, to - at);
      if (whole && extent.present && !isOwn(extent)) return false;
      found ||= takesSpace(extent, at, at + extent.length);
      at += extent.length;
    }
    return found;
  }

  /** A part first: where nothing is gained by it, nothing will be by the rest. */
  private give(from: number, to: number): void {
    this.found += to - from;
    if (this.options.dryRun) return;
    const { image } = this;
    const first = Math.min(to, roundUp(from + TRIAL, image.blockSize));
    image.zero(from, first - from, { unmap: true });
    if (this.anyTakesSpace(from, first, false)) return;
    if (first < to) image.zero(first, to - first, { unmap: true });
    this.freed += to - from;
  }
}

/** Whether the image's own layer decides. */
function isOwn({ depth, present }: Extent): boolean {
  return depth === 0 && present;
}

/** Whether the layer keeps bytes for a part of the range, as far as can be told: a hole of its file is none. */
function takesSpace(extent: Extent, from: number, to: number): boolean {
  const { storage, offset, start } = extent;
  if (!isOwn(extent)) return false;
  if (storage === undefined || offset === undefined) return extent.data;
  const place = offset + from - start;
  const end = Math.min(place + to - from, storage.size());
  // Pages that are the range's only in part stay with their neighbours.
  const paged = end - place >= 2 * PAGE;
  const [first, last] = paged ? [roundUp(place, PAGE), roundDown(end, PAGE)] : [place, end];
  if (first >= last) return false;
  const run = storage.extent(first);
  return run.data || first + run.length < last;
}
