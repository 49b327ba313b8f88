/**
 * The wire of the requests that change something: as layout.ts, whose rules hold here. Offsets are from the end of the
 * request's header.
 */
import { hasBits } from '../../lib/bits.js';
import { nameOf, put64, REPLY_HEADER, REQUEST_HEADER, u64 } from './layout.js';

/** fuse_write_in: fh @0, offset @8, size u32 @16, flags u32 @20, lock owner @24, flags u32 @32. The bytes follow. */
const WRITE_IN = 40;
/** Where in a WRITE request its bytes begin. */
export const PAYLOAD_AT = REQUEST_HEADER + WRITE_IN;

/** fuse_write_out: size u32 @0. */
export function putWritten(reply: Buffer, bytes: number): number {
  put64(reply, REPLY_HEADER, bytes);
  return 8;
}

const FALLOCATE_MODE = { keepSize: 1, punch: 2, zero: 16 } as const;

/** What an FALLOCATE asks for. */
export interface Fallocate {
  readonly at: number;
  readonly length: number;
  /** Undefined for modes that no view has: reserving, collapsing, inserting. */
  readonly what: 'punch' | 'zero' | undefined;
  readonly keepSize: boolean;
}

/** fuse_fallocate_in: fh @0, offset @8, length @16, mode u32 @24. */
export function fallocateOf(request: Buffer): Fallocate {
  const mode = request.readUInt32LE(REQUEST_HEADER + 24);
  const keepSize = hasBits(mode, FALLOCATE_MODE.keepSize);
  const rest = mode - (keepSize ? FALLOCATE_MODE.keepSize : 0);
  return {
    at: u64(request, REQUEST_HEADER + 8),
    length: u64(request, REQUEST_HEADER + 16),
    what: rest === FALLOCATE_MODE.punch ? 'punch' : rest === FALLOCATE_MODE.zero ? 'zero' : undefined,
    keepSize,
  };
}

const SET = { mode: 1, uid: 2, gid: 4, size: 8 } as const;

/** What a SETATTR changes; times, which it may also set, are not ours to keep. */
export interface SetAttributes {
  readonly size?: number;
  readonly mode?: number;
  readonly uid?: number;
  readonly gid?: number;
}

/** fuse_setattr_in: valid u32 @0, fh @8, size @16, times @32 and @56, mode u32 @68, uid @76, gid @80. */
export function setAttributesOf(request: Buffer): SetAttributes {
  const at = REQUEST_HEADER;
  const valid = request.readUInt32LE(at);
  return {
    ...(hasBits(valid, SET.size) ? { size: u64(request, at + 16) } : {}),
    ...(hasBits(valid, SET.mode) ? { mode: request.readUInt32LE(at + 68) % 0o10000 } : {}),
    ...(hasBits(valid, SET.uid) ? { uid: request.readUInt32LE(at + 76) } : {}),
    ...(hasBits(valid, SET.gid) ? { gid: request.readUInt32LE(at + 80) } : {}),
  };
}

/** The name in a CREATE: fuse_create_in, 16 bytes, comes before it. */
export function createdNameOf(request: Buffer): string | undefined {
  return nameOf(request, REQUEST_HEADER + 16);
}

const RENAME_NOREPLACE = 1;

/** What a RENAME or RENAME2 asks for. */
export interface Rename {
  readonly newParent: number;
  readonly from: string | undefined;
  readonly to: string | undefined;
  /** An exchange of two files, or something else that is no plain renaming. */
  readonly special: boolean;
}

/** RENAME: new directory u64 @0, then both names. RENAME2: new directory @0, flags u32 @8, names @16. */
export function renameOf(request: Buffer, withFlags: boolean): Rename {
  const names = REQUEST_HEADER + (withFlags ? 16 : 8);
  const flags = withFlags ? request.readUInt32LE(REQUEST_HEADER + 8) : 0;
  const end = request.indexOf(0, names);
  return {
    newParent: u64(request, REQUEST_HEADER),
    from: nameOf(request, names),
    to: end < 0 ? undefined : nameOf(request, end + 1),
    special: flags > RENAME_NOREPLACE,
  };
}

/** What a SETXATTR sets. */
export interface SetExtended {
  readonly name: string;
  readonly value: Uint8Array;
}

/** fuse_setxattr_in without SETXATTR_EXT: size u32 @0, flags u32 @4; then the name and the value. */
export function setExtendedOf(request: Buffer): SetExtended | undefined {
  const size = request.readUInt32LE(REQUEST_HEADER);
  const names = REQUEST_HEADER + 8;
  const name = nameOf(request, names);
  const at = request.indexOf(0, names) + 1;
  if (name === undefined || at + size > request.length) return undefined;
  return { name, value: request.subarray(at, at + size) };
}
