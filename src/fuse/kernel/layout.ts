/**
 * The wire of /dev/fuse: linux/fuse.h of protocol 7.23 and later, little-endian. Every offset and flag is
 * here and only here. All functions are plain reads and writes at fixed places of a Buffer. A decoder may be called
 * only for a request that `bodyFits`; then no decoder throws, whatever the bytes.
 */
import { isUtf8 } from 'node:buffer';
import type { Attributes, NodeKind, Space } from '../adapter.js';
import { OPCODE } from './opcodes.js';

/** fuse_in_header: len u32 @0, opcode u32 @4, unique u64 @8, nodeid u64 @16, uid, gid, pid u32 @24. */
export const REQUEST_HEADER = 40;
/** fuse_out_header: len u32 @0, error i32 @4, unique u64 @8. A reply's body follows. */
export const REPLY_HEADER = 16;
/** Largest WRITE we ask for: the most that 256 pages of 4 KiB hold. */
export const MAX_WRITE = 1048576;
/**
 * Largest READ we ask for. A larger read arrives as several at once, for several workers, each with a buffer that
 * stays in the processor's cache: measured at twice the speed of one request of 1 MiB.
 */
export const MAX_READ = 262144;
/** Room for the largest request: the kernel hands out none to a buffer smaller than it might need. */
export const REQUEST_BYTES = MAX_WRITE + 4096;

/** INIT flags; those of FLAG2 travel in the second word, which counts only with INIT_EXT. */
export const INIT_FLAG = {
  ASYNC_READ: 1 << 0,
  BIG_WRITES: 1 << 5,
  ASYNC_DIO: 1 << 15,
  WRITEBACK_CACHE: 1 << 16,
  PARALLEL_DIROPS: 1 << 18,
  MAX_PAGES: 1 << 22,
  INIT_EXT: 1 << 30,
} as const;
export const INIT_FLAG2 = { DIRECT_IO_ALLOW_MMAP: 1 << 4 } as const;

/** The flags of `wanted` that `offered` has too. */
export function commonFlags(wanted: number, offered: number): number {
  return (wanted & offered) >>> 0;
}

const FOPEN = { DIRECT_IO: 1 << 0, KEEP_CACHE: 1 << 1, NOFLUSH: 1 << 5 } as const;
const O_ACCMODE = 0o3;
const FILE_TYPE: Readonly<Record<NodeKind, number>> = { directory: 0o040000, file: 0o100000 };
const DIRENT_TYPE: Readonly<Record<NodeKind, number>> = { directory: 4, file: 8 };
const SEEK: Readonly<Record<number, 'data' | 'hole'>> = { 3: 'data', 4: 'hole' };
const STAT_BLOCK = 512;
const NAME_MAX = 255;
const TWO_32 = 2 ** 32;

/** Bytes of fixed fields that each opcode's decoder reads past the header; 0 where none are read. */
const BODY_BYTES = new Uint8Array(64);
BODY_BYTES[OPCODE.INIT] = 16;
BODY_BYTES[OPCODE.OPEN] = 8;
BODY_BYTES[OPCODE.READ] = 24;
BODY_BYTES[OPCODE.READDIR] = 24;
BODY_BYTES[OPCODE.RELEASEDIR] = 8;
BODY_BYTES[OPCODE.LSEEK] = 24;
BODY_BYTES[OPCODE.WRITE] = 40;
BODY_BYTES[OPCODE.FALLOCATE] = 32;
BODY_BYTES[OPCODE.SETATTR] = 88;
BODY_BYTES[OPCODE.CREATE] = 16;
BODY_BYTES[OPCODE.RENAME] = 8;
BODY_BYTES[OPCODE.RENAME2] = 16;
BODY_BYTES[OPCODE.SETXATTR] = 8;

/** Whether a request of `length` bytes (at least a header) has every fixed field its decoder reads. */
export function bodyFits(opcode: number, length: number): boolean {
  return length >= REQUEST_HEADER + (BODY_BYTES[opcode] ?? 0);
}

/** An unsigned 64-bit field; past 2^53 it is Infinity, which no inode, size or offset of ours can be. */
export function u64(from: Buffer, at: number): number {
  const high = from.readUInt32LE(at + 4);
  return high < 2 ** 21 ? high * TWO_32 + from.readUInt32LE(at) : Number.POSITIVE_INFINITY;
}

/** Two's complement, so that times before 1970 survive. Fractions are dropped; |value| below 2^53. */
export function put64(into: Buffer, at: number, value: number): void {
  const whole = Math.floor(value);
  const high = Math.floor(whole / TWO_32);
  into.writeUInt32LE(whole - high * TWO_32, at);
  into.writeInt32LE(high | 0, at + 4);
}

export const lengthOf = (request: Buffer): number => request.readUInt32LE(0);
export const opcodeOf = (request: Buffer): number => request.readUInt32LE(4);
export const inodeOf = (request: Buffer): number => u64(request, 16);
export const uniqueLow = (request: Buffer): number => request.readUInt32LE(8);
export const uniqueHigh = (request: Buffer): number => request.readUInt32LE(12);

/** READ and READDIR (fuse_read_in): fh @0, offset @8, size u32 @16. LSEEK: fh @0, offset @8, whence u32 @16. */
export const handleOf = (request: Buffer): number => u64(request, REQUEST_HEADER);
export const offsetOf = (request: Buffer): number => u64(request, REQUEST_HEADER + 8);
export const sizeOf = (request: Buffer): number => request.readUInt32LE(REQUEST_HEADER + 16);

/** What an LSEEK looks for; undefined for a whence that the kernel keeps to itself. */
export function seekWant(request: Buffer): 'data' | 'hole' | undefined {
  return SEEK[request.readUInt32LE(REQUEST_HEADER + 16)];
}

/** Whether an OPEN asks to write in any way. */
export function opensForWriting(request: Buffer): boolean {
  return (request.readUInt32LE(REQUEST_HEADER) & O_ACCMODE) !== 0;
}

/** The name at `at` (a request's whole body without it); undefined when it is empty, without NUL, or not UTF-8. */
export function nameOf(request: Buffer, at = REQUEST_HEADER): string | undefined {
  const end = request.indexOf(0, at);
  const bytes = request.subarray(at, Math.max(end, at));
  return bytes.length > 0 && isUtf8(bytes) ? bytes.toString('utf8') : undefined;
}

export interface InitOffer {
  readonly major: number;
  readonly minor: number;
  readonly maxReadahead: number;
  readonly flags: number;
  readonly flags2: number;
}

/** fuse_init_in: 16 bytes before 7.36, then with flags2 u32 @16. */
export function initOffer(request: Buffer): InitOffer {
  const at = REQUEST_HEADER;
  return {
    major: request.readUInt32LE(at),
    minor: request.readUInt32LE(at + 4),
    maxReadahead: request.readUInt32LE(at + 8),
    flags: request.readUInt32LE(at + 12),
    flags2: request.length >= at + 20 ? request.readUInt32LE(at + 16) : 0,
  };
}

/**
 * Finishes a reply of `length` bytes in all: the header, with the request's `unique` copied bit for bit. `errno` is
 * positive, 0 for success.
 */
export function putHeader(reply: Buffer, request: Buffer, length: number, errno: number): void {
  reply.writeUInt32LE(length, 0);
  reply.writeInt32LE(-errno, 4);
  reply.writeUInt32LE(request.readUInt32LE(8), 8);
  reply.writeUInt32LE(request.readUInt32LE(12), 12);
}

/** A reply that is an error and nothing else, to the request with this `unique`; for one that is no longer at hand. */
export function errorReply(low: number, high: number, errno: number): Buffer {
  const reply = Buffer.alloc(REPLY_HEADER);
  reply.writeUInt32LE(REPLY_HEADER, 0);
  reply.writeInt32LE(-errno, 4);
  reply.writeUInt32LE(low, 8);
  reply.writeUInt32LE(high, 12);
  return reply;
}

/** FUSE_NOTIFY_INVAL_INODE. */
const DROP_INODE = 2;

/**
 * Not a reply: tells the kernel to drop the pages and attributes that it has of a file. fuse_out_header with the code
 * where an errno would be, then fuse_notify_inval_inode_out: ino @0, offset @8, length @16 (0 for the rest of it).
 */
export function dropNotice(ino: number): Buffer {
  const notice = Buffer.alloc(REPLY_HEADER + 24);
  notice.writeUInt32LE(notice.length, 0);
  notice.writeInt32LE(DROP_INODE, 4);
  put64(notice, REPLY_HEADER, ino);
  return notice;
}

/** The errno (positive) a finished reply carries. */
export const errnoOfReply = (reply: Buffer): number => -reply.readInt32LE(4);

export interface InitAnswer extends InitOffer {
  readonly maxBackground: number;
  readonly congestionThreshold: number;
  readonly maxWrite: number;
  readonly maxPages: number;
}

/** fuse_init_out, 64 bytes since 7.23. Returns the body's length, as every `put` below. */
export function putInit(reply: Buffer, answer: InitAnswer): number {
  const at = REPLY_HEADER;
  reply.fill(0, at, at + 64);
  reply.writeUInt32LE(answer.major, at);
  reply.writeUInt32LE(answer.minor, at + 4);
  reply.writeUInt32LE(answer.maxReadahead, at + 8);
  reply.writeUInt32LE(answer.flags, at + 12);
  reply.writeUInt16LE(answer.maxBackground, at + 16);
  reply.writeUInt16LE(answer.congestionThreshold, at + 18);
  reply.writeUInt32LE(answer.maxWrite, at + 20);
  reply.writeUInt32LE(1, at + 24); // time_gran: nanoseconds
  reply.writeUInt16LE(answer.maxPages, at + 28);
  reply.writeUInt32LE(answer.flags2, at + 32);
  return 64;
}

/** fuse_attr, 88 bytes: the three times are all the modification's. */
function putAttr(reply: Buffer, at: number, node: Attributes): void {
  put64(reply, at, node.ino);
  put64(reply, at + 8, node.size);
  put64(reply, at + 16, Math.ceil(node.allocated / STAT_BLOCK));
  for (let time = 0; time < 3; time++) {
    put64(reply, at + 24 + time * 8, node.mtimeSeconds);
    reply.writeUInt32LE(node.mtimeNanoseconds >>> 0, at + 48 + time * 4);
  }
  reply.writeUInt32LE(FILE_TYPE[node.kind] + (node.mode & 0o7777), at + 60);
  reply.writeUInt32LE(node.links >>> 0, at + 64);
  reply.writeUInt32LE(node.uid >>> 0, at + 68);
  reply.writeUInt32LE(node.gid >>> 0, at + 72);
  reply.writeUInt32LE(0, at + 76);
  reply.writeUInt32LE(node.blockSize >>> 0, at + 80);
  reply.writeUInt32LE(0, at + 84);
}

function putValidity(reply: Buffer, seconds: number, nanoseconds: number, ms: number): void {
  put64(reply, seconds, ms / 1000);
  reply.writeUInt32LE((ms % 1000) * 1000000, nanoseconds);
}

/** fuse_entry_out: the name is believed for as long as the attributes. */
export function putEntry(reply: Buffer, node: Attributes): number {
  const at = REPLY_HEADER;
  put64(reply, at, node.ino);
  put64(reply, at + 8, 0);
  putValidity(reply, at + 16, at + 32, node.validMs);
  putValidity(reply, at + 24, at + 36, node.validMs);
  putAttr(reply, at + 40, node);
  return 128;
}

/** fuse_attr_out. */
export function putAttributes(reply: Buffer, node: Attributes): number {
  const at = REPLY_HEADER;
  putValidity(reply, at, at + 8, node.validMs);
  reply.writeUInt32LE(0, at + 12);
  putAttr(reply, at + 16, node);
  return 104;
}

/** How the kernel shall treat an open file. */
export interface OpenHow {
  readonly keepCache: boolean;
  readonly directIo: boolean;
  /** No FLUSH at each close. */
  readonly noFlush?: boolean;
}

/** fuse_open_out, at `at` of the reply. */
export function putOpen(reply: Buffer, handle: number, how: OpenHow, at = REPLY_HEADER): number {
  const { keepCache, directIo, noFlush = false } = how;
  const cache = (keepCache ? FOPEN.KEEP_CACHE : 0) | (directIo ? FOPEN.DIRECT_IO : 0);
  put64(reply, at, handle);
  reply.writeUInt32LE(cache | (noFlush ? FOPEN.NOFLUSH : 0), at + 8);
  reply.writeUInt32LE(0, at + 12);
  return 16;
}

/** fuse_statfs_out. frsize equals bsize: many programs multiply the counts by whichever of the two they know. */
export function putSpace(reply: Buffer, space: Space): number {
  const at = REPLY_HEADER;
  const free = Math.floor(space.free / space.blockSize);
  reply.fill(0, at, at + 80);
  put64(reply, at, Math.ceil(space.total / space.blockSize));
  put64(reply, at + 8, free);
  put64(reply, at + 16, free);
  put64(reply, at + 24, space.files);
  reply.writeUInt32LE(space.blockSize >>> 0, at + 40);
  reply.writeUInt32LE(NAME_MAX, at + 44);
  reply.writeUInt32LE(space.blockSize >>> 0, at + 48);
  return 80;
}

/** fuse_lseek_out. */
export function putSeek(reply: Buffer, found: number): number {
  put64(reply, REPLY_HEADER, found);
  return 8;
}

/**
 * One fuse_dirent at `at` of the body; `next` is the offset from which a later READDIR goes on. Returns where the
 * entry after it begins, or undefined when this one does not fit into a body of `size` bytes.
 */
export function putDirent(
  reply: Buffer,
  at: number,
  size: number,
  entry: { readonly ino: number; readonly kind: NodeKind; readonly name: string },
  next: number,
): number | undefined {
  const name = Buffer.from(entry.name, 'utf8');
  const end = at + ((24 + name.length + 7) & ~7);
  if (end > size || REPLY_HEADER + end > reply.length) return undefined;
  const start = REPLY_HEADER + at;
  put64(reply, start, entry.ino);
  put64(reply, start + 8, next);
  reply.writeUInt32LE(name.length, start + 16);
  reply.writeUInt32LE(DIRENT_TYPE[entry.kind], start + 20);
  name.copy(reply, start + 24);
  reply.fill(0, start + 24 + name.length, REPLY_HEADER + end);
  return end;
}
