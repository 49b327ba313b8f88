/**
 * The frame of a zstd stream (RFC 8878, section 3.1.1), read without decoding it: a compressed cluster is followed by
 * whatever shares its last sector, and every decoder here wants exactly one frame.
 */
import { asBuffer } from '../lib/bits.js';

const MAGIC_TEXT = '28b52ffd';
const BLOCK_HEADER_BYTES = 3;
const CHECKSUM_BYTES = 4;
const DICTIONARY_BYTES = [0, 1, 2, 4] as const;
const CONTENT_BYTES = [0, 2, 4, 8] as const;
const BLOCK = { raw: 0, rle: 1, compressed: 2, reserved: 3 } as const;

export interface ZstdFrame {
  /** Bytes of the frame, checksum included. */
  readonly length: number;
  /** Bytes it yields, where the header tells. */
  readonly contentSize: number | undefined;
}

/** The frame at the start of `bytes`; undefined when there is none, it is cut short, or it needs a dictionary. */
export function readZstdFrame(bytes: Uint8Array): ZstdFrame | undefined {
  const from = asBuffer(bytes);
  if (from.length < 6 || from.toString('hex', 0, 4) !== MAGIC_TEXT) return undefined;
  const descriptor = from.readUInt8(4);
  const dictionary = DICTIONARY_BYTES[descriptor % 4];
  const checksum = Math.floor(descriptor / 4) % 2 === 1;
  const single = Math.floor(descriptor / 32) % 2 === 1;
  const sizeCode = Math.floor(descriptor / 64);
  const contentBytes = sizeCode === 0 && single ? 1 : (CONTENT_BYTES[sizeCode] ?? 0);
  if (dictionary !== 0) return undefined;
  const contentAt = single ? 5 : 6;
  const end = endOfBlocks(from, contentAt + contentBytes);
  if (end === undefined) return undefined;
  const length = end + (checksum ? CHECKSUM_BYTES : 0);
  if (length > from.length) return undefined;
  return { length, contentSize: readContentSize(from, contentAt, contentBytes) };
}

/** Each block moves forward by at least its own header, so this ends with the input. */
function endOfBlocks(from: Buffer, first: number): number | undefined {
  for (let at = first; at + BLOCK_HEADER_BYTES <= from.length; ) {
    const header = from.readUIntLE(at, BLOCK_HEADER_BYTES);
    const last = header % 2 === 1;
    const type = Math.floor(header / 2) % 4;
    if (type === BLOCK.reserved) return undefined;
    at += BLOCK_HEADER_BYTES + (type === BLOCK.rle ? 1 : Math.floor(header / 8));
    if (last) return at;
  }
  return undefined;
}

/** The two-byte form counts from 256. A size past 2^53 comes back inexact, and larger than any buffer. */
function readContentSize(from: Buffer, at: number, bytes: number): number | undefined {
  if (bytes === 0) return undefined;
  if (bytes === 1) return from.readUInt8(at);
  if (bytes === 2) return from.readUInt16LE(at) + 256;
  if (bytes === 4) return from.readUInt32LE(at);
  return Number(from.readBigUInt64LE(at));
}

const SINGLE_SEGMENT_4_BYTE_SIZE = 160;
const MAX_BLOCK = 128 * 1024;
const WORTH_A_RUN = 16;

/**
 * A valid frame holding `plain` without a compressor: runs of one byte as such, the rest stored. What recipes use so
 * that they need no zstd on the host.
 */
export function storedZstdFrame(plain: Uint8Array): Uint8Array {
  const head = Buffer.alloc(9);
  head.write(MAGIC_TEXT, 0, 'hex');
  head.writeUInt8(SINGLE_SEGMENT_4_BYTE_SIZE, 4);
  head.writeUInt32LE(plain.length, 5);
  const parts: Uint8Array[] = [head];
  for (let at = 0; at < plain.length; ) {
    const same = runLength(plain, at);
    const rle = same >= WORTH_A_RUN;
    let end = at + same;
    while (!rle && end < plain.length && end - at < MAX_BLOCK && runLength(plain, end) < WORTH_A_RUN) end++;
    const header = Buffer.alloc(BLOCK_HEADER_BYTES);
    const last = end === plain.length ? 1 : 0;
    header.writeUIntLE((end - at) * 8 + (rle ? BLOCK.rle : BLOCK.raw) * 2 + last, 0, BLOCK_HEADER_BYTES);
    parts.push(header, plain.subarray(at, rle ? at + 1 : end));
    at = end;
  }
  return Buffer.concat(parts);
}

/** How many bytes from `at` on are equal, up to one block. */
function runLength(plain: Uint8Array, at: number): number {
  let end = at + 1;
  while (end < plain.length && end - at < MAX_BLOCK && plain[end] === plain[at]) end++;
  return end - at;
}
