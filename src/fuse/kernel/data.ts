/** The data requests, READ and LSEEK, answered from a DataServer: the hot path, the same on every thread. */
import { constants } from 'node:os';
import type { DataServer } from '../adapter.js';
import type { Complaints } from '../complaints.js';
import { errnoOf } from '../errno.js';
import { inodeOf, MAX_DATA, offsetOf, opcodeOf, putHeader, putSeek, REPLY_HEADER, seekWant, sizeOf } from './layout.js';
import { OPCODE } from './opcodes.js';

const { EINVAL, EIO, ENXIO } = constants.errno;

/** Whether this opcode is for a DataDesk. */
export function isData(opcode: number): boolean {
  return opcode === OPCODE.READ || opcode === OPCODE.LSEEK;
}

/** Builds replies in its one buffer, which is written to the device before the next request is answered. */
export class DataDesk {
  /** Header and data leave in one write, so the server reads straight to their place behind the header. */
  readonly reply = Buffer.alloc(REPLY_HEADER + MAX_DATA);
  /** Requests come in runs of one size: the view of the last one is kept. */
  private into = this.reply.subarray(REPLY_HEADER, REPLY_HEADER);

  constructor(
    readonly data: DataServer,
    private readonly complaints: Complaints,
  ) {
    // Touched now: a page fault while serving writeback could wait for that very writeback.
    this.reply.fill(0);
  }

  /** Answers a request that `isData` and `bodyFits`. Returns the length of the finished reply. Never throws. */
  answer(request: Buffer): number {
    return opcodeOf(request) === OPCODE.READ ? this.read(request) : this.seek(request);
  }

  private read(request: Buffer): number {
    const size = sizeOf(request);
    const at = offsetOf(request);
    if (size > MAX_DATA) return this.fail(request, EIO);
    // Past 2^53 no file of ours has a byte; the kernel may ask for it where a file is opened without page cache.
    if (at > Number.MAX_SAFE_INTEGER) return this.finish(request, 0);
    if (this.into.length !== size) this.into = this.reply.subarray(REPLY_HEADER, REPLY_HEADER + size);
    try {
      const had = this.data.read(inodeOf(request), this.into, at);
      // A short reply means end of file to the kernel; a length that makes no sense must not become one.
      if (!(had >= 0 && had <= size)) throw new RangeError(`${had} bytes read of ${size}`);
      return this.finish(request, had);
    } catch (error) {
      this.complaints.tell(`read of inode ${inodeOf(request)} at ${at}`, error);
      return this.fail(request, errnoOf(error));
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
      this.complaints.tell(`seek in inode ${inodeOf(request)} at ${at}`, error);
      return this.fail(request, errnoOf(error));
    }
  }

  private finish(request: Buffer, body: number): number {
    putHeader(this.reply, request, REPLY_HEADER + body, 0);
    return REPLY_HEADER + body;
  }

  private fail(request: Buffer, errno: number): number {
    putHeader(this.reply, request, REPLY_HEADER, errno);
    return REPLY_HEADER;
  }
}
