/** A disk in memory to copy to, for tests. */
import type { WrittenDisk } from '../../src/convert/copy.js';
import type { Packing } from '../../src/image/image.js';
import type { Storage } from '../../src/storage/storage.js';

const TIB = 2 ** 40;

/** A disk in memory that begins with `byte` everywhere and notes what is done to it. */
export class Taken implements WrittenDisk {
  readonly bytes: Buffer;
  readonly written: (readonly [from: number, to: number])[] = [];
  readonly cleared: (readonly [from: number, to: number])[] = [];
  readonly copied: (readonly [from: number, at: number, length: number])[] = [];
  readonly packing: Packing | undefined = undefined;
  /** How much of a range the host is said to copy. */
  hostCopies: (at: number, length: number) => number = () => 0;

  constructor(
    readonly size: number,
    byte: number,
    readonly blockSize = 4096,
  ) {
    this.bytes = Buffer.alloc(size > TIB ? 0 : size, byte);
  }

  write(from: Uint8Array, at: number): void {
    this.written.push([at, at + from.length]);
    this.bytes.set(from, at);
  }

  copyIn(_: Storage, from: number, at: number, length: number): number {
    const done = this.hostCopies(at, length);
    if (done > 0) this.copied.push([from, at, done]);
    return done;
  }

  writePacked(): void {
    throw new Error('nothing is to be packed');
  }

  zero(at: number, length: number): void {
    this.cleared.push([at, at + length]);
    this.bytes.subarray(at, at + length).fill(0);
  }
}
