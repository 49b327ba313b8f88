/**
 * The header of a VDI and the entries of its block map. All numbers are little-endian. There is no specification; field
 * names follow VirtualBox's `VDICore.h`. Everything that ever changes lies in the first sector.
 */

/** A line of text for people, then the signature and the version: the same in all versions. */
export const TEXT_BYTES = 64;
export const SIGNATURE_AT = 64;
const VERSION_AT = 68;
export const PREHEADER_BYTES = 72;
const SIGNATURE = 0xbeda107f;

/** `major << 16 | minor`. VirtualBox called its first format 2, others 0.1; the fields are the same. */
export const VERSION = { current: 0x0001_0001, old: [1, 2] } as const;

export const TYPE = { dynamic: 1, static: 2, undo: 3, differencing: 4 } as const;

/** Values of an entry that are no index of a block. */
export const ENTRY = {
  /** Nothing is stored: what lies below decides, zeros without. */
  free: 0xffff_ffff,
  /** Discarded: zeros, whatever lies below. */
  zero: 0xffff_fffe,
} as const;
export const ENTRY_BYTES = 4;

/** QEMU's limit: a map and a sector stay below 2 GiB. */
export const MAX_BLOCKS = (0x8000_0000 - 512) / ENTRY_BYTES;

/** Where the fields of a version lie, from the start of the file. */
export interface Places {
  /** Bytes of pre-header and header that must be there. */
  readonly bytes: number;
  readonly type: number;
  readonly flags: number;
  readonly comment: number;
  /** Undefined where the places of map and data follow from the rest. */
  readonly headerSize?: number;
  readonly mapAt?: number;
  readonly dataAt?: number;
  readonly sectorSize: number;
  readonly diskSize: number;
  readonly blockSize: number;
  readonly blockExtra?: number;
  readonly blocks: number;
  readonly allocated: number;
  readonly uuid: number;
  readonly modified: number;
  readonly link: number;
  readonly parentModified?: number;
}

export const UUID_BYTES = 16;
export const COMMENT_BYTES = 256;

export const CURRENT = {
  bytes: 456,
  headerSize: 72,
  type: 76,
  flags: 80,
  comment: 84,
  mapAt: 340,
  dataAt: 344,
  sectorSize: 360,
  diskSize: 368,
  blockSize: 376,
  blockExtra: 380,
  blocks: 384,
  allocated: 388,
  uuid: 392,
  modified: 408,
  link: 424,
  parentModified: 440,
} as const satisfies Places;

export const OLD = {
  bytes: 420,
  type: 72,
  flags: 76,
  comment: 80,
  sectorSize: 348,
  diskSize: 352,
  blockSize: 360,
  blocks: 364,
  allocated: 368,
  uuid: 372,
  modified: 388,
  link: 404,
} as const satisfies Places;

/** The header's own length as it counts it: without the pre-header. The longer one has a second geometry. */
export const HEADER_SIZE = { least: CURRENT.bytes - PREHEADER_BYTES, virtualBox: 400 } as const;

/** Whether the file says that it is a VDI, of whatever version. */
export function hasSignature(head: Buffer): boolean {
  return head.length >= PREHEADER_BYTES && head.readUInt32LE(SIGNATURE_AT) === SIGNATURE;
}

/** The version as stored, and for people. */
export function versionOf(head: Buffer): { readonly code: number; readonly text: string } {
  const code = head.readUInt32LE(VERSION_AT);
  return { code, text: `${code >>> 16}.${code & 0xffff}` };
}

/** Where the fields lie in this version; undefined for versions nobody knows. */
export function placesOf(code: number): Places | undefined {
  if (code === VERSION.current) return CURRENT;
  return VERSION.old.some((old) => old === code) ? OLD : undefined;
}

/** How far header and map reach, by what the header says: no guest's bytes lie there. For any bytes. */
export function bytesBeforeBlocks(head: Buffer): number {
  if (head.length < CURRENT.bytes || head.readUInt32LE(VERSION_AT) !== VERSION.current) return PREHEADER_BYTES;
  return head.readUInt32LE(CURRENT.dataAt);
}

/** Text, signature and version. */
export function encodePreheader(into: Buffer, text: string, code: number): void {
  into.write(text, 0, TEXT_BYTES - 1, 'latin1');
  into.writeUInt32LE(SIGNATURE, SIGNATURE_AT);
  into.writeUInt32LE(code, VERSION_AT);
}

/** The UUID at `at` as people write it: its first three groups are little-endian numbers. */
export function uuidAt(head: Buffer, at: number): string {
  const groups = [
    Buffer.from(head.subarray(at, at + 4)).reverse(),
    Buffer.from(head.subarray(at + 4, at + 6)).reverse(),
    Buffer.from(head.subarray(at + 6, at + 8)).reverse(),
    head.subarray(at + 8, at + 10),
    head.subarray(at + 10, at + 16),
  ];
  return groups.map((group) => group.toString('hex')).join('-');
}

export const NO_UUID = '00000000-0000-0000-0000-000000000000';

/** Makes random bytes a UUID of version 4. */
export function randomUuid(random: Buffer): Buffer {
  const uuid = Buffer.from(random);
  uuid[7] = (uuid[7]! & 0x0f) | 0x40;
  uuid[8] = (uuid[8]! & 0x3f) | 0x80;
  return uuid;
}

/** Another UUID than the one at `at`, the same each time: its first number counts on. */
export function countUuid(header: Buffer, at: number): void {
  header.writeUInt32LE((header.readUInt32LE(at) + 1) >>> 0, at);
}
