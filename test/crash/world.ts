/**
 * What a guest may find on its disk: exactly this content at the last moment everything was durable, and per sector
 * anything written later. Without later writes a world is an exact model of the disk.
 */
import { bytesOf, type Operation, SECTOR } from './operations.js';

/** More than this many contents of one sector: the workload overlaps unaligned writes beyond what is worth telling. */
const MAX_CONTENTS = 64;

export interface PastDisk {
  readonly disk: Uint8Array;
}

export class World {
  private constructor(
    readonly size: number,
    /** May be longer than `size`: what a larger disk of before held. */
    private readonly base: Uint8Array,
    /** By sector, everything it may hold, where that is not `base` alone. */
    private readonly contents: Map<number, readonly Uint8Array[]>,
    readonly snapshots: ReadonlyMap<string, PastDisk>,
    /** A disk in the middle of growing may have any size up to this, and anything behind `size`. */
    private readonly most = size,
  ) {}

  static of(disk: Uint8Array, snapshots: ReadonlyMap<string, PastDisk> = new Map()): World {
    return new World(disk.length, disk, new Map(), snapshots);
  }

  /** After a completed operation that promises no durability, or after one that does (see `isDurable`). */
  after(operation: Operation, stamp: number): World {
    switch (operation.do) {
      case 'write':
        return this.patched(operation.at, bytesOf(operation, stamp));
      case 'zero':
      case 'discard':
        return this.patched(operation.at, new Uint8Array(operation.length));
      case 'resize':
        return this.resized(operation.size);
      case 'snapshot':
        return this.withSnapshots((all) => all.set(operation.name, { disk: this.exact() }));
      case 'delete':
        return this.withSnapshots((all) => all.delete(operation.name));
      case 'rename':
        return this.withSnapshots((all) => {
          const renamed = all.get(operation.name);
          if (renamed === undefined) return;
          all.delete(operation.name);
          all.set(operation.to, renamed);
        });
      case 'apply':
        return World.of(this.snapshot(operation.name).disk, this.snapshots);
      default:
        return this;
    }
  }

  /** After an operation that succeeded, where nothing is lost: only the new content is left. */
  certainly(operation: Operation, stamp: number): World {
    switch (operation.do) {
      case 'write':
        return this.overwritten(operation.at, bytesOf(operation, stamp));
      case 'zero':
      case 'discard':
        return this.overwritten(operation.at, new Uint8Array(operation.length));
      case 'resize':
        return this.after(operation, stamp).settled();
      default:
        return this.after(operation, stamp);
    }
  }

  /** On its way to `size`: what it shows already, and something that nobody was promised. */
  growing(size: number): World {
    return new World(this.size, this.base, this.contents, this.snapshots, Math.max(this.size, size));
  }

  /** The newest content everywhere and nothing else. */
  settled(): World {
    return World.of(this.exact(), this.snapshots);
  }

  /** The newest content of the disk. */
  exact(): Uint8Array {
    const disk = new Uint8Array(this.size);
    disk.set(this.base.subarray(0, this.size));
    for (const [sector, all] of this.contents) {
      const newest = all[all.length - 1];
      const at = sector * SECTOR;
      if (newest !== undefined && at < this.size) disk.set(newest.subarray(0, this.size - at), at);
    }
    return disk;
  }

  /**
   * Sectors of `disk` that hold nothing this world allows; `undefined` for another size. At most about `most`.
   * `bytewise` allows mixtures of what a sector may hold: a failed write may end anywhere.
   */
  strangers(disk: Uint8Array, bytewise = false, most = 8): readonly number[] | undefined {
    if (disk.length < this.size || disk.length > this.most) return undefined;
    const found: number[] = [];
    const sectors = [...this.contents.keys()].filter((sector) => sector * SECTOR < this.size).sort((a, b) => a - b);
    let at = 0;
    for (const sector of [...sectors, Math.ceil(this.size / SECTOR)]) {
      const end = Math.min(sector * SECTOR, this.size);
      if (!same(disk.subarray(at, end), this.base.subarray(at, end)))
        found.push(...this.differing(disk, at, end, most));
      if (end < this.size && !this.allows(sector, disk, bytewise)) found.push(sector);
      if (found.length >= most) break;
      at = end + SECTOR;
    }
    return found;
  }

  snapshot(name: string): PastDisk {
    const found = this.snapshots.get(name);
    if (found === undefined) throw new Error(`the model has no snapshot ${name}`);
    return found;
  }

  private allows(sector: number, disk: Uint8Array, bytewise: boolean): boolean {
    const at = sector * SECTOR;
    const got = disk.subarray(at, Math.min(at + SECTOR, this.size));
    const contents = this.contents.get(sector) ?? [];
    if (contents.some((content) => same(content.subarray(0, got.length), got))) return true;
    return bytewise && got.every((byte, n) => contents.some((content) => content[n] === byte));
  }

  private differing(disk: Uint8Array, from: number, to: number, most: number): number[] {
    const found: number[] = [];
    for (let at = from; at < to && found.length < most; at += SECTOR) {
      const end = Math.min(at + SECTOR, to);
      if (!same(disk.subarray(at, end), this.base.subarray(at, end))) found.push(at / SECTOR);
    }
    return found;
  }

  private patched(at: number, bytes: Uint8Array): World {
    return this.withContents(at, bytes, (sector, within, piece) => this.joined(sector, within, piece));
  }

  private overwritten(at: number, bytes: Uint8Array): World {
    return this.withContents(at, bytes, (sector, within, piece) => this.over(sector, within, piece));
  }

  private withContents(
    at: number,
    bytes: Uint8Array,
    change: (sector: number, within: number, piece: Uint8Array) => readonly Uint8Array[],
  ): World {
    const contents = new Map(this.contents);
    for (let done = 0; done < bytes.length; ) {
      const within = (at + done) % SECTOR;
      const sector = (at + done - within) / SECTOR;
      const piece = bytes.subarray(done, done + SECTOR - within);
      contents.set(sector, change(sector, within, piece));
      done += piece.length;
    }
    return new World(this.size, this.base, contents, this.snapshots);
  }

  /** Everything the sector may hold, with `piece` over it. */
  private over(sector: number, within: number, piece: Uint8Array): readonly Uint8Array[] {
    const before = piece.length === SECTOR ? [piece] : (this.contents.get(sector) ?? [this.stored(sector)]);
    return before.map((old) => {
      const content = old.slice();
      content.set(piece, within);
      return content;
    });
  }

  /** Part of a sector may have been stored over any of its earlier contents. The newest comes last. */
  private joined(sector: number, within: number, piece: Uint8Array): readonly Uint8Array[] {
    const before = this.contents.get(sector) ?? [this.stored(sector)];
    const added = this.over(sector, within, piece);
    const newest = added[added.length - 1];
    if (newest === undefined) return before;
    const all = [...before, ...added].filter((content) => !same(content, newest));
    const unlike = all.filter((content, n) => all.findIndex((other) => same(other, content)) === n);
    if (unlike.length >= MAX_CONTENTS) throw new RangeError(`too many ways to leave sector ${sector}`);
    return [...unlike, newest];
  }

  private stored(sector: number): Uint8Array {
    const content = new Uint8Array(SECTOR);
    content.set(this.base.subarray(sector * SECTOR, (sector + 1) * SECTOR));
    return content;
  }

  /** What is cut off may come back as it was, or as zeros, as long as nothing was flushed. */
  private resized(size: number): World {
    const longest = Math.max(size, this.base.length);
    const base = longest === this.base.length ? this.base : new Uint8Array(longest);
    if (base !== this.base) base.set(this.base);
    const wider = new World(Math.max(size, this.size), base, this.contents, this.snapshots);
    const blank = size < this.size ? wider.patched(size, new Uint8Array(this.size - size)) : wider;
    return new World(size, base, blank.contents, this.snapshots);
  }

  private withSnapshots(change: (all: Map<string, PastDisk>) => void): World {
    const all = new Map(this.snapshots);
    change(all);
    return new World(this.size, this.base, this.contents, all);
  }
}

/** Whether two runs of bytes are equal as far as both go. */
export function sameStart(a: Uint8Array, b: Uint8Array): boolean {
  const length = Math.min(a.length, b.length);
  return same(a.subarray(0, length), b.subarray(0, length));
}

/** Whether two runs of bytes are equal. */
export function same(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && Buffer.compare(a, b) === 0;
}
