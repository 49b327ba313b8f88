import { roundUp } from '../../lib/bits.js';
import type { Storage } from '../../storage/storage.js';
import { addKey, type KeyMaking } from './key-slots.js';
import {
  DIGEST_BYTES,
  encodeHeader,
  HEADER_BYTES,
  type HeaderFields,
  SALT_BYTES,
  SECTOR,
  SLOTS,
  type SlotFields,
} from './layout.js';
import { digestOf } from './unlock.js';

/** Where the first slot's material begins, and what each slot's is rounded up to: as QEMU and cryptsetup have it. */
const MATERIAL_AT = 4096;
const STRIPES = 4000;
const LEAST_ITERATIONS = 1000;
/** The digest of the key takes an eighth of a slot's time. */
const DIGEST_SHARE = 8;

export interface NewLuks {
  /** `xts-plain64`, and the like: one that `cipherOf` takes. */
  readonly mode: string;
  readonly keyBytes: number;
  readonly hash: string;
}

/** Bytes of the header and the material of all slots, with keys of that length. */
export function headBytes(keyBytes: number): number {
  return MATERIAL_AT + SLOTS * slotBytes(keyBytes);
}

/**
 * Makes a header of a new master key at the start of `storage`, with the passphrase in slot 0, durable on return. The
 * key is returned, and wiped by the caller; the passphrase stays the caller's.
 */
export function formatLuks(storage: Storage, wanted: NewLuks, passphrase: Uint8Array, making: KeyMaking): Buffer {
  const { random } = making;
  const key = random(wanted.keyBytes);
  const bare: HeaderFields = {
    cipher: 'aes',
    mode: wanted.mode,
    hash: wanted.hash,
    payloadOffset: headBytes(wanted.keyBytes),
    keyBytes: wanted.keyBytes,
    digest: Buffer.alloc(DIGEST_BYTES),
    digestSalt: random(SALT_BYTES),
    digestIterations: Math.max(LEAST_ITERATIONS, Math.floor(making.iterations / DIGEST_SHARE)),
    uuid: uuid(random),
    slots: Array.from({ length: SLOTS }, (_, n) => emptySlot(wanted.keyBytes, n)),
  };
  const header = { ...bare, digest: digestOf(bare, key) };
  storage.write(Buffer.alloc(MATERIAL_AT - HEADER_BYTES), HEADER_BYTES);
  storage.write(encodeHeader(header), 0);
  addKey(storage, header, { slot: 0, key, passphrase, making });
  return key;
}

function emptySlot(keyBytes: number, n: number): SlotFields {
  const keyOffset = MATERIAL_AT + n * slotBytes(keyBytes);
  return { state: 'inactive', iterations: 0, salt: Buffer.alloc(SALT_BYTES), keyOffset, stripes: STRIPES };
}

function slotBytes(keyBytes: number): number {
  return roundUp(roundUp(keyBytes * STRIPES, SECTOR), MATERIAL_AT);
}

/** A random one: version 4 of RFC 9562. */
function uuid(random: (count: number) => Buffer): string {
  const bytes = random(16);
  bytes.writeUInt8(0x40 + (bytes.readUInt8(6) % 16), 6);
  bytes.writeUInt8(0x80 + (bytes.readUInt8(8) % 64), 8);
  const hex = bytes.toString('hex');
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join('-');
}
