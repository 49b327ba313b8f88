/** Where memory lies: direct I/O takes only buffers that begin on a block boundary, and all I/O likes them. */
import { roundDown } from './bits.js';
import { libc } from './libc.js';

/** No logical block of a disk in use is larger, and every smaller one divides it. */
export const ALIGNMENT = 4096;

/** Most processors have pages of this size beside the small ones. */
const HUGE_PAGE = 2 * 1024 * 1024;

/** Where each allocation begins, within a huge page: asked for once. */
const starts = new WeakMap<ArrayBufferLike, number>();

/**
 * A zeroed buffer of `length` bytes whose byte `at` begins on a block boundary. Every page of it was touched, so that
 * using it later needs no memory, and is kept from being swapped out where that is allowed. Without the FFI, which alone
 * knows addresses, it lies anywhere.
 */
export function alignedBuffer(length: number, at: number): Buffer {
  const room = Buffer.from(new ArrayBuffer(length + ALIGNMENT));
  const skip = (ALIGNMENT - ((startOf(room) + at) % ALIGNMENT)) % ALIGNMENT;
  const bytes = room.subarray(skip, skip + length).fill(0);
  libc()?.lockMemory(bytes);
  return bytes;
}

/**
 * Where in `memory`, not used so far, `length` bytes may begin that are read and written in large pieces: on a block
 * boundary, and where they fill huge pages on such a page. Those are asked for: the host then copies faster, and a
 * device that takes bytes straight from there takes them in fewer parts. There must be `ROOM_FOR_LARGE` bytes more.
 */
export function largeAt(memory: ArrayBufferLike, length: number): number {
  const whole = roundDown(length, HUGE_PAGE);
  const boundary = whole === 0 ? ALIGNMENT : HUGE_PAGE;
  const at = (boundary - (startOf(new Uint8Array(memory)) % boundary)) % boundary;
  if (whole > 0) libc()?.adviseHugePages(new Uint8Array(memory, at, whole));
  return at;
}

export const ROOM_FOR_LARGE = HUGE_PAGE;

/** A buffer of `length` bytes that lie as `largeAt` says. */
export function largeBuffer(length: number): Buffer {
  const memory = new ArrayBuffer(length + ROOM_FOR_LARGE);
  return Buffer.from(memory, largeAt(memory, length), length);
}

/**
 * Whether the bytes, read or written at `at` of a file, are whole blocks of `unit` bytes, at a multiple of that, in memory
 * that begins on a block boundary: what direct I/O takes. False without the FFI.
 */
export function areBlocks(bytes: Uint8Array, at: number, unit: number): boolean {
  if (at % unit !== 0 || bytes.length % unit !== 0 || libc() === undefined) return false;
  return (startOf(bytes) + bytes.byteOffset) % ALIGNMENT === 0;
}

function startOf(bytes: Uint8Array): number {
  const known = starts.get(bytes.buffer);
  if (known !== undefined) return known;
  const address = libc()?.addressOf(new Uint8Array(bytes.buffer)) ?? 0n;
  const start = Number(address % BigInt(HUGE_PAGE));
  starts.set(bytes.buffer, start);
  return start;
}
