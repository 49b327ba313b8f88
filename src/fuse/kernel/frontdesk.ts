/** The main thread's part: INIT's successors about names, and whatever a data worker passed on. */
import { constants } from 'node:os';
import { ImgfsError } from '../../lib/errors.js';
import type { Ino, NameServer, Served } from '../adapter.js';
import { Complaints } from '../complaints.js';
import { errnoOf } from '../errno.js';
import { changes } from './changes.js';
import { DataDesk, isData } from './data.js';
import { send } from './device.js';
import { Directories } from './directories.js';
import {
  bodyFits,
  dropNotice,
  errnoOfReply,
  handleOf,
  inodeOf,
  lengthOf,
  MAX_READ,
  nameOf,
  offsetOf,
  opcodeOf,
  opensForWriting,
  putAttributes,
  putEntry,
  putHeader,
  putOpen,
  putSpace,
  REPLY_HEADER,
  REQUEST_HEADER,
  sizeOf,
} from './layout.js';
import { isSilent } from './loop.js';
import { OPCODE, opcodeName } from './opcodes.js';
import { traceLine } from './trace.js';

const { EBUSY, EINVAL, EIO, ENOENT, ENOSYS, ENOTTY, EROFS } = constants.errno;
const NO_HANDLE = 0;

export interface FrontDeskOptions {
  readonly fd: number;
  readonly readOnly: boolean;
  readonly log: (message: string) => void;
  readonly trace: boolean;
}

/** Fills the body behind the header of `reply` and returns its length, or a negative errno. May throw. */
export type Handler = (request: Buffer, reply: Buffer) => number;

/** A file may still count as open when it is not: its RELEASE may come after, by way of another thread. */
const BUSY_RETRIES = 10;
const BUSY_WAIT_MS = 10;

/** Answers requests one at a time, each with exactly one write to the device. */
export class FrontDesk {
  private readonly complaints: Complaints;
  private readonly data: DataDesk;
  private readonly handlers: ReadonlyMap<number, Handler>;

  constructor(
    served: Served,
    private readonly options: FrontDeskOptions,
  ) {
    this.complaints = new Complaints(options.log);
    this.data = new DataDesk(served.data, this.complaints);
    const { fd, readOnly } = options;
    const drop = (ino: Ino): void => {
      const notice = dropNotice(ino);
      send(fd, notice, notice.length);
    };
    this.handlers = new Map([...changes(served.names, readOnly, drop), ...questions(served.names, readOnly)]);
  }

  /**
   * Takes one request as it came from the device, whole or not; its bytes must stay as they are until it is answered,
   * which a busy file can delay. Never throws.
   */
  take(request: Buffer, retries = BUSY_RETRIES): void {
    if (request.length < REQUEST_HEADER || isSilent(opcodeOf(request))) return;
    const reply = this.data.reply;
    const length = this.answer(request, reply);
    if (retries > 0 && errnoOfReply(reply) === EBUSY && wantsItClosed(opcodeOf(request))) {
      setTimeout(() => this.take(request, retries - 1), BUSY_WAIT_MS);
      return;
    }
    send(this.options.fd, reply, length);
    if (this.options.trace) this.options.log(traceLine(request, reply, length));
  }

  /** Builds the reply to a request that has at least a header; returns its length. Never throws. */
  private answer(request: Buffer, reply: Buffer): number {
    const opcode = opcodeOf(request);
    const whole = lengthOf(request) === request.length && bodyFits(opcode, request.length);
    if (whole && isData(opcode)) return this.data.answer(request);
    const result = whole ? this.handle(opcode, request, reply) : -EINVAL;
    const length = REPLY_HEADER + Math.max(result, 0);
    putHeader(reply, request, length, Math.max(-result, 0));
    return length;
  }

  private handle(opcode: number, request: Buffer, reply: Buffer): number {
    const handler = this.handlers.get(opcode);
    if (handler === undefined) return -ENOSYS;
    try {
      return handler(request, reply);
    } catch (error) {
      const errno = errnoOf(error);
      // A name that is missing or an open that is not allowed is an answer; only failures are worth a line.
      if (errno === EIO || !(error instanceof ImgfsError)) {
        this.complaints.tell(`${opcodeName(opcode)} of inode ${inodeOf(request)}`, error);
      }
      return -errno;
    }
  }
}

function wantsItClosed(opcode: number): boolean {
  const { UNLINK, RENAME, RENAME2, SETXATTR } = OPCODE;
  return opcode === UNLINK || opcode === RENAME || opcode === RENAME2 || opcode === SETXATTR;
}

/**
 * What only asks. Opcodes in neither list get ENOSYS, by which the kernel learns once and for all that it need not
 * ask: ACCESS (default_permissions decides), GETXATTR, LISTXATTR, POLL, BMAP, STATX, COPY_FILE_RANGE.
 */
function questions(names: NameServer, readOnly: boolean): [number, Handler][] {
  const directories = new Directories(names);
  const fine: Handler = () => 0;
  return [
    [OPCODE.LOOKUP, (request, reply) => lookup(names, directories, request, reply)],
    [OPCODE.GETATTR, (request, reply) => putAttributes(reply, names.attributes(inodeOf(request)))],
    [OPCODE.READLINK, () => -EINVAL],
    [OPCODE.OPEN, (request, reply) => open(names, readOnly, request, reply)],
    [OPCODE.RELEASE, (request) => release(names, request)],
    [OPCODE.OPENDIR, (request, reply) => putOpen(reply, directories.open(inodeOf(request)), CACHED)],
    [
      OPCODE.READDIR,
      (request, reply) =>
        directories.read(handleOf(request), offsetOf(request), Math.min(sizeOf(request), MAX_READ), reply),
    ],
    [OPCODE.RELEASEDIR, (request) => directories.close(handleOf(request))],
    [OPCODE.STATFS, (_request, reply) => putSpace(reply, names.space())],
    // A change of names is durable when it is answered.
    [OPCODE.FSYNCDIR, fine],
    [OPCODE.IOCTL, () => -ENOTTY],
    [OPCODE.DESTROY, fine],
  ];
}

const CACHED = { keepCache: false, directIo: false };

function lookup(names: NameServer, directories: Directories, request: Buffer, reply: Buffer): number {
  const parent = inodeOf(request);
  const name = nameOf(request);
  // Every name we show is UTF-8: other bytes name nothing.
  if (name === undefined) return -ENOENT;
  const node = names.attributes(names.lookup(parent, name));
  if (node.kind === 'directory') directories.remember(node.ino, parent);
  return putEntry(reply, node);
}

function open(names: NameServer, readOnly: boolean, request: Buffer, reply: Buffer): number {
  const writable = opensForWriting(request);
  if (writable && readOnly) return -EROFS;
  // Whoever only reads need not be told at the close what became of writes.
  return putOpen(reply, NO_HANDLE, { ...names.open(inodeOf(request), writable), noFlush: !writable });
}

function release(names: NameServer, request: Buffer): number {
  names.release(inodeOf(request));
  return 0;
}
