/** What stat says of files that change. */
import fs from 'node:fs';
import type { Ino } from '../fuse/adapter.js';
import { allocatedBytes } from '../image/allocated.js';
import type { Image } from '../image/image.js';
import { ImgfsError } from '../lib/errors.js';
import type { OpenFile } from '../storage/file.js';

/** How often views were written, zeroed parts included, on all threads. */
export class Modifications {
  private readonly words: Int32Array;

  constructor(readonly buffer = new SharedArrayBuffer(4)) {
    this.words = new Int32Array(buffer);
  }

  add(): void {
    Atomics.add(this.words, 0, 1);
  }

  get count(): number {
    return Atomics.load(this.words, 0);
  }
}

interface Counted {
  readonly bytes: number;
  /** After how many modifications. */
  readonly after: number;
}

/** Bytes stored for each view. */
export class Allocations {
  private readonly counted = new Map<Ino, Counted>();

  constructor(private readonly modifications: Modifications) {}

  /** A view that cannot be opened has none; opening and reading it says why. */
  of(ino: Ino, changes: boolean, view: () => Image): number {
    const known = this.counted.get(ino);
    const now = changes ? this.modifications.count : 0;
    if (known?.after === now) return known.bytes;
    const bytes = countable(view);
    this.counted.set(ino, { bytes, after: now });
    return bytes;
  }

  forget(ino: Ino): void {
    this.counted.delete(ino);
  }
}

function countable(view: () => Image): number {
  try {
    return allocatedBytes(view());
  } catch (error) {
    if (error instanceof ImgfsError) return 0;
    throw error;
  }
}

/** When an open file was last written to. */
export function modified({ fd }: OpenFile): { readonly mtimeSeconds: number; readonly mtimeNanoseconds: number } {
  const { mtimeNs } = fs.fstatSync(fd, { bigint: true });
  const seconds = mtimeNs / 1_000_000_000n;
  return { mtimeSeconds: Number(seconds), mtimeNanoseconds: Number(mtimeNs - seconds * 1_000_000_000n) };
}

/** Bytes the host still has for an open file, for whoever may write it. */
export function freeFor({ fd }: OpenFile): number {
  const { bavail, bsize } = fs.statfsSync(`/proc/self/fd/${fd}`);
  return bavail * bsize;
}
