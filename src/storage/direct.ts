import fs from 'node:fs';
import { ALIGNMENT, alignedBuffer, areBlocks } from '../lib/aligned.js';
import { roundDown, roundUp } from '../lib/bits.js';
import { hostError } from '../lib/errors.js';
import { FileStorage, type OpenFile } from './file.js';
import type { Storage } from './storage.js';

/** Bytes that go through the bounce buffer at once. */
const BOUNCE = 1024 * 1024;
const DEVICE_SECTOR = 512;

/** The storage of an open file, in the way it was opened. `release` is called once, by `close`. */
export function fileStorage(file: OpenFile, release?: () => void): Storage {
  return file.direct === true ? new DirectStorage(file, release) : new FileStorage(file, release);
}

/**
 * A file or block device opened with O_DIRECT: nothing of it is kept in the host's page cache. Whole blocks in aligned
 * memory go straight through; everything else by way of an aligned buffer, parts of a block as read, change and write.
 *
 * That is not atomic: of several threads only one may write parts of blocks. Where a part of a block is written at the
 * end of the file, a crash may leave the file longer, by zeros up to the end of that block.
 */
class DirectStorage extends FileStorage {
  readonly unbuffered = true;
  private readonly bounce = alignedBuffer(BOUNCE, 0);
  private readonly unit: number;

  constructor(file: OpenFile, release?: () => void) {
    super(file, release);
    this.unit = file.size % ALIGNMENT !== 0 && fs.fstatSync(file.fd).isBlockDevice() ? DEVICE_SECTOR : ALIGNMENT;
  }

  override read(into: Uint8Array, at: number): number {
    const { unit } = this;
    if (areBlocks(into, at, unit)) return this.checked(this.fetch(into, at), into, at);
    let done = 0;
    while (done < into.length) {
      const start = roundDown(at + done, unit);
      const skip = at + done - start;
      const span = Math.min(BOUNCE, roundUp(skip + into.length - done, unit));
      const had = this.fetch(this.bounce.subarray(0, span), start);
      const useful = Math.min(had - skip, into.length - done);
      if (useful <= 0) break;
      into.set(this.bounce.subarray(skip, skip + useful), done);
      done += useful;
      if (had < span) break;
    }
    return this.checked(done, into, at);
  }

  override write(from: Uint8Array, at: number): void {
    const { unit } = this;
    if (areBlocks(from, at, unit)) {
      super.write(from, at);
      return;
    }
    this.assertHealthy();
    for (let done = 0; done < from.length; ) {
      const start = roundDown(at + done, unit);
      const skip = at + done - start;
      const part = Math.min(from.length - done, BOUNCE - skip);
      this.writePart(from.subarray(done, done + part), start, skip);
      done += part;
    }
  }

  /** Writes the blocks that `from` touches, `skip` bytes into the block at `start`, the rest of them as it was. */
  private writePart(from: Uint8Array, start: number, skip: number): void {
    const { unit, bounce } = this;
    const end = skip + from.length;
    const span = roundUp(end, unit);
    const size = this.size();
    if (skip > 0) this.load(0, start);
    if (end < span && !(skip > 0 && span === unit)) this.load(span - unit, start);
    bounce.set(from, skip);
    super.write(bounce.subarray(0, span), start);
    // Only whole blocks can be written: what that added to the file is taken away again.
    const wanted = Math.max(size, start + end);
    if (start + span > wanted) this.resize(wanted);
  }

  /** Fills one block of the bounce buffer with what the file has there, and zeros past its end. */
  private load(at: number, start: number): void {
    const block = this.bounce.subarray(at, at + this.unit);
    block.fill(0, this.fetch(block, start + at));
  }

  /** Reads whole blocks into aligned memory; fewer bytes only at the end of the file. */
  private fetch(into: Uint8Array, at: number): number {
    let done = 0;
    try {
      // A count that is no whole block is the end of the file, and must not be continued from.
      while (done < into.length && done % this.unit === 0) {
        const got = fs.readSync(this.fd, into, done, into.length - done, at + done);
        if (got === 0) break;
        done += got;
      }
    } catch (error) {
      throw hostError(`cannot read ${this.name}`, error);
    }
    return done;
  }
}
