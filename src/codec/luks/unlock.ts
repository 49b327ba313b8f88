import { pbkdf2Sync, timingSafeEqual } from 'node:crypto';
import { ImgfsError } from '../../lib/errors.js';
import { readTable, type Storage } from '../../storage/storage.js';
import { aesSectors } from '../crypt/sector-cipher.js';
import { afMerge } from './anti-forensic.js';
import { assertHash, cipherOf, HASHES } from './ciphers.js';
import { materialBytes } from './header.js';
import { DIGEST_BYTES, type HeaderFields, type SlotFields } from './layout.js';

/**
 * What trying one passphrase may cost, in blocks of digest: half a minute of one processor. A header can ask for
 * 2^32-1 iterations in each of nine places.
 */
const MAX_WORK = 2 ** 27;

/** A slot that a passphrase opens, and the master key, which the caller wipes. */
export interface Unlocked {
  readonly slot: number;
  readonly key: Buffer;
}

/**
 * Tries the passphrase on every active slot, in order, up to the first that it opens; undefined where none is. A slot
 * costs the same whether it opens or not. `storage` begins with the header; the passphrase stays its owner's.
 * Throws `limit` for a header that asks for too much work, and what `cipherOf` throws.
 */
export function unlock(storage: Storage, header: HeaderFields, passphrase: Uint8Array): Unlocked | undefined {
  assertUsable(storage, header);
  for (const [slot, fields] of header.slots.entries()) {
    if (fields.state !== 'active') continue;
    const key = openSlot(storage, header, fields, passphrase);
    if (timingSafeEqual(digestOf(header, key), header.digest)) return { slot, key };
    key.fill(0);
  }
  return undefined;
}

/** Throws where the header cannot be worked with, before any work is done. */
export function assertUsable(storage: Storage, header: HeaderFields): void {
  const { name } = storage;
  cipherOf(header, name);
  assertHash(header.hash, name);
  const blocks = Math.ceil(header.keyBytes / (HASHES[header.hash] ?? 1));
  const active = header.slots.filter(({ state }) => state === 'active');
  const iterations = active.reduce((sum, slot) => sum + slot.iterations * blocks + header.digestIterations, 0);
  if (iterations <= MAX_WORK) return;
  throw new ImgfsError('limit', `${name}: its key slots ask for ${iterations} iterations, the limit is ${MAX_WORK}`);
}

/** The digest by which a master key is known to be right. */
export function digestOf(header: HeaderFields, key: Uint8Array): Buffer {
  return pbkdf2Sync(key, header.digestSalt, header.digestIterations, DIGEST_BYTES, header.hash);
}

/** What encrypts a slot's material: a key as long as the master key, from the passphrase. The caller wipes it. */
export function slotKey(header: HeaderFields, slot: SlotFields, passphrase: Uint8Array): Buffer {
  return pbkdf2Sync(passphrase, slot.salt, slot.iterations, header.keyBytes, header.hash);
}

/** What the slot holds if the passphrase is its own, else any bytes. */
function openSlot(storage: Storage, header: HeaderFields, slot: SlotFields, passphrase: Uint8Array): Buffer {
  const material = Buffer.alloc(materialBytes(header, slot));
  readTable(storage, material, slot.keyOffset, 'LUKS key slot');
  const key = slotKey(header, slot, passphrase);
  const cipher = aesSectors(cipherOf(header, storage.name), key);
  try {
    cipher.decrypt(material, 0);
    return afMerge(material, header.keyBytes, slot.stripes, header.hash);
  } finally {
    cipher.close();
    key.fill(0);
    material.fill(0);
  }
}
