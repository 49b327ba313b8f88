/** The LUKS version 1 partition header (LUKS On-Disk Format Specification 1.2.3, figure 1), as far as no key is needed. */

/** Bytes of the header with its eight key slots. */
export const LUKS1_HEADER_BYTES = 592;

const MAGIC_HEX = '4c554b53babe';
const SECTOR = 512;
const SLOTS = 8;
const FIRST_SLOT = 208;
const SLOT_BYTES = 48;
const SLOT_ACTIVE = '00ac71f3';

export interface LuksSlot {
  readonly active: boolean;
  readonly iterations: number;
  /** Bytes from the start of the header. */
  readonly keyOffset: number;
  readonly stripes: number;
}

export interface LuksHeader {
  /** `aes`, and the like. */
  readonly cipher: string;
  /** `xts-plain64`, `cbc-essiv:sha256`. */
  readonly mode: string;
  readonly hash: string;
  /** Bytes from the start of the header. */
  readonly payloadOffset: number;
  readonly keyBytes: number;
  readonly iterations: number;
  readonly uuid: string;
  readonly slots: readonly LuksSlot[];
}

/** Decodes the header; undefined when `bytes` are not one of version 1. */
export function readLuksHeader(bytes: Buffer): LuksHeader | undefined {
  if (bytes.length < LUKS1_HEADER_BYTES || bytes.toString('hex', 0, 6) !== MAGIC_HEX) return undefined;
  if (bytes.readUInt16BE(6) !== 1) return undefined;
  return {
    cipher: text(bytes, 8, 32),
    mode: text(bytes, 40, 32),
    hash: text(bytes, 72, 32),
    payloadOffset: bytes.readUInt32BE(104) * SECTOR,
    keyBytes: bytes.readUInt32BE(108),
    iterations: bytes.readUInt32BE(164),
    uuid: text(bytes, 168, 40),
    slots: Array.from({ length: SLOTS }, (_, index) => readSlot(bytes, FIRST_SLOT + index * SLOT_BYTES)),
  };
}

function readSlot(bytes: Buffer, at: number): LuksSlot {
  return {
    active: bytes.toString('hex', at, at + 4) === SLOT_ACTIVE,
    iterations: bytes.readUInt32BE(at + 4),
    keyOffset: bytes.readUInt32BE(at + 40) * SECTOR,
    stripes: bytes.readUInt32BE(at + 44),
  };
}

function text(bytes: Buffer, at: number, length: number): string {
  const end = bytes.indexOf(0, at);
  return bytes.toString('latin1', at, end < at || end > at + length ? at + length : end);
}
