/** LUKS headers for samples: whole, and so little work that an image can be opened thousands of times. */
import { addKey } from '../codec/luks/key-slots.js';
import { encodeHeader, type HeaderFields, SALT_BYTES, SLOTS } from '../codec/luks/layout.js';
import { digestOf } from '../codec/luks/unlock.js';
import { SECTOR } from '../storage/cipher.js';
import { MemoryStorage } from '../storage/memory.js';
import { pattern } from './sample-bytes.js';
import { SAMPLE_PASSPHRASE } from './samples.js';

const ITERATIONS = 2;
const STRIPES = 2;
/** The sector that the first slot's material begins at. */
const MATERIAL = 8;

export interface LuksRecipe {
  readonly mode: string;
  readonly keyBytes: number;
  readonly hash: string;
  /** The slots that SAMPLE_PASSPHRASE opens. */
  readonly slots?: readonly number[];
  /** Sectors between the last slot and the data. */
  readonly gap?: number;
}

export interface SampleLuks {
  /** All that lies before the data: a few KiB. */
  readonly head: Buffer;
  readonly header: HeaderFields;
  readonly key: Buffer;
}

export function sampleLuks({ mode, keyBytes, hash, slots = [0], gap = 0 }: LuksRecipe): SampleLuks {
  const slotSectors = Math.ceil((keyBytes * STRIPES) / SECTOR);
  const payloadOffset = (MATERIAL + SLOTS * slotSectors + gap) * SECTOR;
  const key = Buffer.from(pattern(keyBytes, keyBytes));
  const bare: HeaderFields = {
    cipher: 'aes',
    mode,
    hash,
    payloadOffset,
    keyBytes,
    digest: Buffer.alloc(20),
    digestSalt: Buffer.from(pattern(SALT_BYTES, 1)),
    digestIterations: ITERATIONS,
    uuid: '01234567-89ab-4cde-8f01-23456789abcd',
    slots: Array.from({ length: SLOTS }, (_, n) => ({
      state: 'inactive',
      iterations: 0,
      salt: Buffer.alloc(SALT_BYTES),
      keyOffset: (MATERIAL + n * slotSectors) * SECTOR,
      stripes: STRIPES,
    })),
  };
  const header = { ...bare, digest: digestOf(bare, key) };
  const storage = new MemoryStorage('sample', payloadOffset);
  storage.write(encodeHeader(header), 0);
  const making = { random: (count: number) => Buffer.from(pattern(count, count)), iterations: ITERATIONS };
  for (const slot of slots) addKey(storage, header, { slot, key, passphrase: Buffer.from(SAMPLE_PASSPHRASE), making });
  return { head: storage.bytes(), header, key };
}
