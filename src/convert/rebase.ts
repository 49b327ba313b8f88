/** Putting another image below a disk, which stays the same. */
import type { Extent, Image, NamedFile } from '../image/image.js';
import { largeBuffer } from '../lib/aligned.js';
import { roundDown, roundUp } from '../lib/bits.js';
import { ImgfsError } from '../lib/errors.js';

export interface Rebase {
  /** The disk, open for writing above what lies below it now. */
  readonly top: Image;
  /** What shall lie below it; undefined for nothing. */
  readonly next: Image | undefined;
  /** How its header shall call that. */
  readonly named: NamedFile | undefined;
  /** Layers from this many below the top on lie below `next` too, in the same way: what they show needs no copy. */
  readonly shared: number;
}

/** Formats that can be given another backing file, and whether they store its format. QEMU can do it with qcow2 only. */
const STORES_FORMAT: ReadonlyMap<string, boolean> = new Map([
  ['qcow2', true],
  ['qcow', false],
]);

/**
 * Whether the image can be given that backing file, before anything is done. Throws `unsupported` for its format, and
 * `usage` where the other's format is to be said and is not, or is said and cannot be kept.
 */
export function checkNamed({ info }: Image, file: string, named: NamedFile | undefined): void {
  const stores = STORES_FORMAT.get(info.format);
  if (stores === undefined) {
    throw new ImgfsError('unsupported', `${file}: what lies below ${info.format} images cannot be changed`);
  }
  if (named === undefined || stores === (named.format !== undefined)) return;
  if (stores) {
    throw new ImgfsError('usage', `the format of the backing file "${named.name}" is not given`, {
      hint: 'say it with -F: a guest that could write it must not decide it',
    });
  }
  throw new ImgfsError('usage', `${info.format} images do not store the format of what lies below them`, {
    hint: 'leave out -F: it is looked for, as it will be ever after',
  });
}

/** What is read of each at once; reads begin at multiples of it where what is read is longer. */
const BLOCK = 2 * 1024 * 1024;

/**
 * Copies into the top what it shows of the old backing file and would not show of the new one, then has its header name
 * that. A step at a time: yields guest bytes that are done; whoever stops asking has stopped it.
 *
 * Whenever it ends, the top reads as before: until the one write that switches, above the old backing file, which shows
 * what was copied too; from then on above the new one, where all that would differ lies in the top, durably since
 * before. Only the top is written. Throws what reading and writing throw.
 */
export function* rebaseDisk(rebase: Rebase): Generator<number> {
  const { top, next } = rebase;
  const keeper = new Keeper(top, next);
  for (let at = 0; at < top.size; ) {
    const extent = top.extent(at, top.size - at);
    let length = extent.length;
    if (!isOwn(extent) && extent.depth < rebase.shared) {
      const other = extentOf(next, at, length);
      length = Math.min(length, other.length);
      if (!extent.zero || !other.zero) {
        length = Math.min(length, roundDown(at, BLOCK) + BLOCK - at);
        keeper.keep(at, at + length);
      }
    }
    at += length;
    yield at;
  }
  top.flush();
  top.changeBacking(rebase.named);
}

/** Whether the disk's own layer decides. */
function isOwn({ depth, present }: Extent): boolean {
  return depth === 0 && present;
}

/** What is known of the new backing file, which reads as zeros where it has ended. */
function extentOf(next: Image | undefined, at: number, length: number): Pick<Extent, 'length' | 'zero'> {
  if (next === undefined || at >= next.size) return { length, zero: true };
  return next.extent(at, Math.min(length, next.size - at));
}

class Keeper {
  private readonly before = largeBuffer(BLOCK);
  private readonly after = largeBuffer(BLOCK);

  constructor(
    private readonly top: Image,
    private readonly next: Image | undefined,
  ) {}

  /** At most a block, of which the top's own layer has nothing: whole units where anything in them differs. */
  keep(from: number, to: number): void {
    const { top, next } = this;
    const before = this.before.subarray(0, to - from);
    const after = this.after.subarray(0, to - from);
    top.read(before, from);
    const there = Math.max(0, Math.min(to, next?.size ?? 0) - from);
    if (there > 0) next?.read(after.subarray(0, there), from);
    after.fill(0, there);
    if (before.equals(after)) return;
    let differs = from;
    for (let at = from; at < to; ) {
      const end = Math.min(to, roundUp(at + 1, top.blockSize));
      const same = before.compare(after, at - from, end - from, at - from, end - from) === 0;
      if (same) {
        this.put(before.subarray(differs - from, at - from), differs);
        differs = end;
      }
      at = end;
    }
    this.put(before.subarray(differs - from), differs);
  }

  private put(bytes: Buffer, at: number): void {
    if (bytes.length === 0) return;
    if (bytes[0] === 0 && bytes.compare(bytes, 1, bytes.length, 0, bytes.length - 1) === 0) this.putZeros(bytes, at);
    else this.top.write(bytes, at);
  }

  /**
   * Zeros must be the top's own too. It would leave a hole where nothing but zeros lies below now: such ranges, and
   * those of formats that cannot say zeros, are written.
   */
  private putZeros(zeros: Buffer, at: number): void {
    const { top } = this;
    const end = at + zeros.length;
    top.zero(at, zeros.length, { unmap: true });
    for (let here = at; here < end; ) {
      const extent = top.extent(here, end - here);
      if (!isOwn(extent)) top.write(zeros.subarray(0, extent.length), here);
      here += extent.length;
    }
  }
}
