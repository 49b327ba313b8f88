/** The data requests, answered from a DataServer: the hot path, the same on every thread. */
import { constants } from 'node:os';
import { alignedBuffer } from '../../lib/aligned.js';
import type { DataServer } from '../adapter.js';
import type { Complaints } from '../complaints.js';
import { errnoOf } from '../errno.js';
import { fallocateOf, PAYLOAD_AT, putWritten } from './change-layout.js';
import { inodeOf, MAX_READ, offsetOf, opcodeOf, putHeader, putSeek, REPLY_HEADER, seekWant, sizeOf } from './layout.js';
import { OPCODE } from './opcodes.js';

const { EINVAL, EIO, ENOSPC, ENXIO, EOPNOTSUPP, EROFS } = constants.errno;
const { READ, WRITE, LSEEK, FALLOCATE, FSYNC, FLUSH } = OPCODE;

/** Whether this opcode is for a DataDesk. */
export function isData(opcode: number): boolean {
  return (
    opcode === READ ||
    opcode === WRITE ||
    opcode === LSEEK ||
    opcode === FALLOCATE ||
    opcode === FSYNC ||
    opcode === FLUSH
  );
}

/** Builds replies in its one buffer, which is written to the device before the next request is answered. */
export class DataDesk {
  /**
   * Header and data leave in one write, so the server reads straight to their place behind the header: on a block
   * boundary, as reading past the host's page cache needs it. Touched when it is made: a page fault while serving
   * writeback could wait for that very writeback.
   */
  readonly reply = alignedBuffer(REPLY_HEADER + MAX_READ, REPLY_HEADER);
  /** Requests come in runs of one size: the view of the last one is kept. */
  private into = this.reply.subarray(REPLY_HEADER, REPLY_HEADER);

  constructor(
    readonly data: DataServer,
    private readonly complaints: Complaints,
  ) {}

  /** Answers a request that `isData` and `bodyFits`. Returns the length of the finished reply. Never throws. */
  answer(request: Buffer): number {
    switch (opcodeOf(request)) {
      case READ:
        return this.read(request);
      case WRITE:
        return this.write(request);
      case LSEEK:
        return this.seek(request);
      case FALLOCATE:
        return this.allocate(request);
      case FSYNC:
        return this.settle(request, 'flush');
      default:
        return this.settle(request, 'verify');
    }
  }

  private read(request: Buffer): number {
    const size = sizeOf(request);
    const at = offsetOf(request);
    if (size > MAX_READ) return this.fail(request, EIO);
    // Past 2^53 no file of ours has a byte; the kernel may ask for it where a file is opened without page cache.
    if (at > Number.MAX_SAFE_INTEGER) return this.finish(request, 0);
    if (this.into.length !== size) this.into = this.reply.subarray(REPLY_HEADER, REPLY_HEADER + size);
    try {
      const had = this.data.read(inodeOf(request), this.into, at);
      // A short reply means end of file to the kernel; a length that makes no sense must not become one.
      if (!(had >= 0 && had <= size)) throw new RangeError(`${had} bytes read of ${size}`);
      return this.finish(request, had);
    } catch (error) {
      return this.failed(request, `read of inode ${inodeOf(request)} at ${at}`, error);
    }
  }

  /** The bytes go from the request's buffer to their storage, uncopied. */
  private write(request: Buffer): number {
    const size = sizeOf(request);
    const at = offsetOf(request);
    if (PAYLOAD_AT + size > request.length) return this.fail(request, EINVAL);
    if (at > Number.MAX_SAFE_INTEGER) return this.fail(request, ENOSPC);
    try {
      const taken = this.data.write(inodeOf(request), request.subarray(PAYLOAD_AT, PAYLOAD_AT + size), at);
      return this.finish(request, putWritten(this.reply, taken));
    } catch (error) {
      return this.failed(request, `write to inode ${inodeOf(request)} at ${at}`, error);
    }
  }

  /** Only what leaves the size alone: a view is a disk, and all of it is there already. */
  private allocate(request: Buffer): number {
    const { at, length, what, keepSize } = fallocateOf(request);
    if (what === undefined) return this.fail(request, EOPNOTSUPP);
    try {
      const end = Math.min(at + length, Number.MAX_SAFE_INTEGER);
      const wanted = Math.max(0, end - at);
      const done = wanted === 0 ? 0 : this.data.zero(inodeOf(request), at, wanted, { unmap: what === 'punch' });
      return !keepSize && done < wanted ? this.fail(request, ENOSPC) : this.finish(request, 0);
    } catch (error) {
      return this.failed(request, `${what} of inode ${inodeOf(request)} at ${at}`, error);
    }
  }

  private settle(request: Buffer, how: 'flush' | 'verify'): number {
    try {
      this.data[how](inodeOf(request));
      return this.finish(request, 0);
    } catch (error) {
      return this.failed(request, `${how} of inode ${inodeOf(request)}`, error);
    }
  }

  private seek(request: Buffer): number {
    const want = seekWant(request);
    const at = offsetOf(request);
    if (want === undefined) return this.fail(request, EINVAL);
    if (at > Number.MAX_SAFE_INTEGER) return this.fail(request, ENXIO);
    try {
      const found = this.data.seek(inodeOf(request), at, want);
      if (found === undefined) return this.fail(request, ENXIO);
      return this.finish(request, putSeek(this.reply, found));
    } catch (error) {
      return this.failed(request, `seek in inode ${inodeOf(request)} at ${at}`, error);
    }
  }

  private finish(request: Buffer, body: number): number {
    putHeader(this.reply, request, REPLY_HEADER + body, 0);
    return REPLY_HEADER + body;
  }

  private failed(request: Buffer, doing: string, error: unknown): number {
    const errno = errnoOf(error);
    // Writing what is read-only is the caller's mistake, and no news for the log.
    if (errno !== EROFS) this.complaints.tell(doing, error);
    return this.fail(request, errno);
  }

  private fail(request: Buffer, errno: number): number {
    putHeader(this.reply, request, REPLY_HEADER, errno);
    return REPLY_HEADER;
  }
}
