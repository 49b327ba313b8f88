/** The fields of a LUKS version 1 partition header: LUKS On-Disk Format Specification 1.2.3, figures 1, 2 and 4. */

/** Bytes of the header with its eight key slots. */
export const HEADER_BYTES = 592;
export const SECTOR = 512;
export const SLOTS = 8;
export const SALT_BYTES = 32;
export const DIGEST_BYTES = 20;
export const SLOT_BYTES = 48;

const MAGIC = Buffer.from('4c554b53babe', 'hex');
const SIGNATURE_BYTES = 8;
const AT = {
  version: 6,
  cipher: 8,
  mode: 40,
  hash: 72,
  payload: 104,
  keyBytes: 108,
  digest: 112,
  digestSalt: 132,
  digestIterations: 164,
  uuid: 168,
  slots: 208,
} as const;
const TEXT_BYTES = 32;
const UUID_BYTES = 40;
const SLOT_AT = { state: 0, iterations: 4, salt: 8, material: 40, stripes: 44 } as const;
const ACTIVE = 0x00ac71f3;
const INACTIVE = 0x0000dead;

/** What a slot's first word says. */
export type SlotState = 'active' | 'inactive' | 'invalid';

export interface SlotFields {
  readonly state: SlotState;
  readonly iterations: number;
  readonly salt: Buffer;
  /** Bytes from the start of the header. */
  readonly keyOffset: number;
  readonly stripes: number;
}

export interface HeaderFields {
  /** `aes`, and the like. */
  readonly cipher: string;
  /** `xts-plain64`, `cbc-essiv:sha256`. */
  readonly mode: string;
  readonly hash: string;
  /** Bytes from the start of the header. */
  readonly payloadOffset: number;
  /** Of the master key. */
  readonly keyBytes: number;
  readonly digest: Buffer;
  readonly digestSalt: Buffer;
  readonly digestIterations: number;
  readonly uuid: string;
  readonly slots: readonly SlotFields[];
}

/** The version in a header's first bytes; undefined where they are no LUKS header. */
export function decodeVersion(head: Buffer): number | undefined {
  if (head.length < SIGNATURE_BYTES || !head.subarray(0, MAGIC.length).equals(MAGIC)) return undefined;
  return head.readUInt16BE(AT.version);
}

/** `bytes` holds at least HEADER_BYTES; only the signature was looked at. */
export function decodeHeader(bytes: Buffer): HeaderFields {
  return {
    cipher: text(bytes, AT.cipher, TEXT_BYTES),
    mode: text(bytes, AT.mode, TEXT_BYTES),
    hash: text(bytes, AT.hash, TEXT_BYTES),
    payloadOffset: bytes.readUInt32BE(AT.payload) * SECTOR,
    keyBytes: bytes.readUInt32BE(AT.keyBytes),
    digest: copy(bytes, AT.digest, DIGEST_BYTES),
    digestSalt: copy(bytes, AT.digestSalt, SALT_BYTES),
    digestIterations: bytes.readUInt32BE(AT.digestIterations),
    uuid: text(bytes, AT.uuid, UUID_BYTES),
    slots: Array.from({ length: SLOTS }, (_, n) => decodeSlot(bytes, slotAt(n))),
  };
}

export function encodeHeader(fields: HeaderFields): Buffer {
  const bytes = Buffer.alloc(HEADER_BYTES);
  MAGIC.copy(bytes);
  bytes.writeUInt16BE(1, AT.version);
  bytes.write(fields.cipher, AT.cipher, TEXT_BYTES - 1, 'latin1');
  bytes.write(fields.mode, AT.mode, TEXT_BYTES - 1, 'latin1');
  bytes.write(fields.hash, AT.hash, TEXT_BYTES - 1, 'latin1');
  bytes.writeUInt32BE(fields.payloadOffset / SECTOR, AT.payload);
  bytes.writeUInt32BE(fields.keyBytes, AT.keyBytes);
  fields.digest.copy(bytes, AT.digest);
  fields.digestSalt.copy(bytes, AT.digestSalt);
  bytes.writeUInt32BE(fields.digestIterations, AT.digestIterations);
  bytes.write(fields.uuid, AT.uuid, UUID_BYTES - 1, 'latin1');
  for (const [n, slot] of fields.slots.entries()) encodeSlot(slot).copy(bytes, slotAt(n));
  return bytes;
}

/** A slot's SLOT_BYTES. Its first four say whether it is active. */
export function encodeSlot(slot: SlotFields): Buffer {
  const bytes = Buffer.alloc(SLOT_BYTES);
  encodeState(slot.state === 'active').copy(bytes);
  bytes.writeUInt32BE(slot.iterations, SLOT_AT.iterations);
  slot.salt.copy(bytes, SLOT_AT.salt);
  bytes.writeUInt32BE(slot.keyOffset / SECTOR, SLOT_AT.material);
  bytes.writeUInt32BE(slot.stripes, SLOT_AT.stripes);
  return bytes;
}

export function encodeState(active: boolean): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(active ? ACTIVE : INACTIVE);
  return bytes;
}

/** Where slot `n` stands in the header. */
export function slotAt(n: number): number {
  return AT.slots + n * SLOT_BYTES;
}

function decodeSlot(bytes: Buffer, at: number): SlotFields {
  const state = bytes.readUInt32BE(at + SLOT_AT.state);
  return {
    state: state === ACTIVE ? 'active' : state === INACTIVE ? 'inactive' : 'invalid',
    iterations: bytes.readUInt32BE(at + SLOT_AT.iterations),
    salt: copy(bytes, at + SLOT_AT.salt, SALT_BYTES),
    keyOffset: bytes.readUInt32BE(at + SLOT_AT.material) * SECTOR,
    stripes: bytes.readUInt32BE(at + SLOT_AT.stripes),
  };
}

function copy(bytes: Buffer, at: number, length: number): Buffer {
  return Buffer.from(bytes.subarray(at, at + length));
}

/** Without a NUL in its field a text is damaged: it comes back with all of it, too long for any name there is. */
function text(bytes: Buffer, at: number, length: number): string {
  const end = bytes.indexOf(0, at);
  return bytes.toString('latin1', at, end < at || end > at + length ? at + length : end);
}
