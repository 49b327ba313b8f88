/**
 * The header block of a tar archive (POSIX.1-1988 ustar, with GNU's and pax' additions): each field decoded once, and
 * encoded for the archives that imgfs makes.
 */
import { asBuffer } from '../../lib/bits.js';
import { corrupt } from '../../lib/errors.js';

export const BLOCK = 512;
/** Archives are filled up to a whole record of so many bytes. */
export const RECORD = 20 * BLOCK;

export const MAGIC = { at: 257, bytes: Buffer.from('ustar', 'latin1') } as const;

const NAME = { at: 0, length: 100 } as const;
const MODE = { at: 100, length: 8 } as const;
const OWNER = { at: 108, length: 8 } as const;
const GROUP = { at: 116, length: 8 } as const;
const SIZE = { at: 124, length: 12 } as const;
const MODIFIED = { at: 136, length: 12 } as const;
const CHECKSUM = { at: 148, length: 8 } as const;
const TYPE = 156;
const VERSION = { at: 263, bytes: Buffer.from('00', 'latin1') } as const;
const PREFIX = { at: 345, length: 155 } as const;

/** What a header says of the member behind it. */
export const TYPES = {
  file: '0',
  hardLink: '1',
  symbolicLink: '2',
  characterDevice: '3',
  blockDevice: '4',
  directory: '5',
  fifo: '6',
  contiguous: '7',
  /** Records that hold for the next member, or for all that follow. */
  pax: 'x',
  paxGlobal: 'g',
  /** GNU: the data is the name, or the link, of the next member. */
  longName: 'L',
  longLink: 'K',
  sparse: 'S',
} as const;

export interface TarHeader {
  /** The bytes of the name, its prefix included. */
  readonly name: Buffer;
  readonly size: number;
  /** One character. */
  readonly type: string;
}

/** Whether the block is the zeros that end an archive. */
export function isEnd(block: Buffer): boolean {
  return block.every((byte) => byte === 0);
}

/** Decodes a header block. Throws `corrupt`; `what` names the block in messages. */
export function decodeHeader(block: Buffer, what: string): TarHeader {
  if (!MAGIC.bytes.equals(block.subarray(MAGIC.at, MAGIC.at + MAGIC.bytes.length))) {
    throw corrupt(`${what} is no tar header`);
  }
  const sum = decodeNumber(block, CHECKSUM, `${what}: the checksum`);
  if (sum !== checksum(block, (byte) => byte) && sum !== checksum(block, signed)) {
    throw corrupt(`${what} has a wrong checksum`);
  }
  const type = String.fromCharCode(block[TYPE] ?? 0);
  const size = decodeNumber(block, SIZE, `${what}: the size`);
  // GNU's own headers have times where ustar has a prefix.
  const posix = block[MAGIC.at + MAGIC.bytes.length] === 0;
  const prefix = posix ? text(block, PREFIX) : Buffer.alloc(0);
  const name = text(block, NAME);
  return {
    name: prefix.length === 0 ? name : Buffer.concat([prefix, Buffer.from('/'), name]),
    size,
    type: type === '\0' ? TYPES.file : type,
  };
}

/** Up to the first NUL. */
function text(block: Buffer, { at, length }: { readonly at: number; readonly length: number }): Buffer {
  const field = block.subarray(at, at + length);
  const end = field.indexOf(0);
  return Buffer.from(end < 0 ? field : field.subarray(0, end));
}

/** Octal digits, or GNU's base 256, which the highest bit of the first byte announces. */
function decodeNumber(block: Buffer, { at, length }: { readonly at: number; readonly length: number }, what: string) {
  const field = block.subarray(at, at + length);
  const first = field[0] ?? 0;
  if ((first & 0x80) !== 0) return decodeBinary(field, what);
  const digits = text(block, { at, length }).toString('latin1').trim();
  if (!/^[0-7]*$/.test(digits)) throw corrupt(`${what} is no number`);
  return digits === '' ? 0 : Number.parseInt(digits, 8);
}

function decodeBinary(field: Buffer, what: string): number {
  if ((field[0] ?? 0) !== 0x80) throw corrupt(`${what} is negative or beyond 2^53`);
  let value = 0;
  for (const byte of field.subarray(1)) value = value * 256 + byte;
  if (!Number.isSafeInteger(value)) throw corrupt(`${what} is beyond 2^53`);
  return value;
}

/** Of all bytes, the checksum itself counted as spaces. Old programs took bytes for signed. */
function checksum(block: Buffer, meaning: (byte: number) => number): number {
  let sum = CHECKSUM.length * 0x20;
  for (let at = 0; at < BLOCK; at++) {
    if (at < CHECKSUM.at || at >= CHECKSUM.at + CHECKSUM.length) sum += meaning(block[at] ?? 0);
  }
  return sum;
}

function signed(byte: number): number {
  return byte < 0x80 ? byte : byte - 0x100;
}

/** The longest name, in bytes, that a header holds without additions. */
export const LONGEST_NAME = NAME.length;

/** Sizes from here on do not fit into octal digits. */
const OCTAL_SIZES = 8 ** (SIZE.length - 1);

/**
 * The header of a regular member: the same for the same name and size, whoever makes it and when. A size beyond octal
 * digits is written in base 256, which every reader of large archives knows.
 */
export function encodeHeader(name: string, size: number, type: string = TYPES.file): Buffer {
  const block = Buffer.alloc(BLOCK);
  block.write(name, NAME.at, NAME.length, 'utf8');
  octal(block, MODE, 0o644);
  octal(block, OWNER, 0);
  octal(block, GROUP, 0);
  if (size < OCTAL_SIZES) octal(block, SIZE, size);
  else {
    asBuffer(block).writeUIntBE(size, SIZE.at + SIZE.length - 6, 6);
    block[SIZE.at] = 0x80;
  }
  octal(block, MODIFIED, 0);
  block.write(type, TYPE, 'latin1');
  MAGIC.bytes.copy(block, MAGIC.at);
  VERSION.bytes.copy(block, VERSION.at);
  return sealHeader(block);
}

/** Writes the checksum, and returns the header. */
export function sealHeader(block: Buffer): Buffer {
  const sum = checksum(block, (byte) => byte);
  block.write(`${sum.toString(8).padStart(6, '0')}\0 `, CHECKSUM.at, 'latin1');
  return block;
}

function octal(block: Buffer, { at, length }: { readonly at: number; readonly length: number }, value: number): void {
  block.write(`${value.toString(8).padStart(length - 1, '0')}\0`, at, 'latin1');
}

/** A record of pax: its length counts its own digits. */
export function paxRecord(key: string, value: string): Buffer {
  const rest = Buffer.from(` ${key}=${value}\n`);
  let length = rest.length + 1;
  while (String(length).length + rest.length !== length) length++;
  return Buffer.concat([Buffer.from(String(length)), rest]);
}
