/** Where memory lies: direct I/O takes only buffers that begin on a block boundary, and all I/O likes them. */
import { libc } from './libc.js';

/** No logical block of a disk in use is larger, and every smaller one divides it. */
export const ALIGNMENT = 4096;

/** Where each allocation begins, within a block: asked for once. */
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

/** Where in `memory` the first block boundary lies: what the host copies from or to there goes faster. 0 without the FFI. */
export function firstBoundary(memory: ArrayBufferLike): number {
  return (ALIGNMENT - startOf(new Uint8Array(memory))) % ALIGNMENT;
}

/** A buffer of `length` bytes, which begin on a block boundary: for what is read in large pieces. */
export function blockBuffer(length: number): Buffer {
  const memory = new ArrayBuffer(length + ALIGNMENT);
  return Buffer.from(memory, firstBoundary(memory), length);
}

/** Whether the bytes begin on a block boundary. False without the FFI. */
export function isAligned(bytes: Uint8Array): boolean {
  return libc() !== undefined && (startOf(bytes) + bytes.byteOffset) % ALIGNMENT === 0;
}

function startOf(bytes: Uint8Array): number {
  const known = starts.get(bytes.buffer);
  if (known !== undefined) return known;
  const address = libc()?.addressOf(new Uint8Array(bytes.buffer)) ?? 0n;
  const start = Number(address % BigInt(ALIGNMENT));
  starts.set(bytes.buffer, start);
  return start;
}
