import { ImgfsError } from '../../lib/errors.js';
import type { Storage } from '../../storage/storage.js';
import { aesSectors } from '../crypt/sector-cipher.js';
import { afSplit } from './anti-forensic.js';
import { cipherOf } from './ciphers.js';
import { materialBytes } from './header.js';
import { encodeSlot, encodeState, type HeaderFields, SALT_BYTES, slotAt } from './layout.js';
import { slotKey } from './unlock.js';

/** What making a slot needs of the outside. */
export interface KeyMaking {
  /** Fresh random bytes; the caller's buffer is wiped. */
  random(count: number): Buffer;
  /** Of PBKDF2: as many as take as long as an attacker's guess shall take. */
  readonly iterations: number;
}

export interface NewKey {
  /** An inactive slot; by default the first. */
  readonly slot?: number | undefined;
  /** The master key. */
  readonly key: Uint8Array;
  readonly passphrase: Uint8Array;
  readonly making: KeyMaking;
}

/**
 * Makes a slot that the passphrase opens, and returns its number. The material is durable before the slot's fields
 * are written, and these before the word that makes it active (an entry can lie across two sectors): after a crash
 * the slot opens, or is free. Throws `no-space` where no slot is free, `exists` for one in use.
 */
export function addKey(storage: Storage, header: HeaderFields, { slot, key, passphrase, making }: NewKey): number {
  const n = slot ?? header.slots.findIndex(({ state }) => state === 'inactive');
  const old = header.slots[n];
  if (old === undefined) throw new ImgfsError('no-space', `${storage.name}: all LUKS key slots are in use`);
  if (old.state === 'active') throw new ImgfsError('exists', `${storage.name}: LUKS key slot ${n} is in use`);
  const fields = { ...old, iterations: making.iterations, salt: making.random(SALT_BYTES) };
  const material = Buffer.alloc(materialBytes(header, fields));
  const wrapping = slotKey(header, fields, passphrase);
  const cipher = aesSectors(cipherOf(header, storage.name), wrapping);
  const split = afSplit(key, fields.stripes, header.hash, making.random);
  try {
    split.copy(material);
    cipher.encrypt(material, material, 0);
    storage.write(material, fields.keyOffset);
  } finally {
    cipher.close();
    wrapping.fill(0);
    split.fill(0);
    material.fill(0);
  }
  storage.flush();
  storage.write(encodeSlot(fields), slotAt(n));
  storage.flush();
  storage.write(encodeState(true), slotAt(n));
  storage.flush();
  return n;
}

/**
 * Destroys a slot: what it holds is overwritten, durably, before the slot is marked as free, so that no crash leaves
 * a key behind that nobody knows of. A host that keeps old versions of what is overwritten keeps this too.
 */
export function removeKey(storage: Storage, header: HeaderFields, slot: number, random: KeyMaking['random']): void {
  const old = header.slots[slot];
  if (old?.state !== 'active') throw new ImgfsError('missing', `${storage.name}: LUKS key slot ${slot} is not in use`);
  storage.write(random(materialBytes(header, old)), old.keyOffset);
  storage.flush();
  storage.write(encodeSlot({ ...old, state: 'inactive', iterations: 0, salt: Buffer.alloc(SALT_BYTES) }), slotAt(slot));
  storage.flush();
}
