import { aesSectors } from '../../codec/crypt/sector-cipher.js';
import { cipherOf } from '../../codec/luks/ciphers.js';
import { addKey } from '../../codec/luks/key-slots.js';
import { encodeHeader, type HeaderFields, SALT_BYTES, SLOTS } from '../../codec/luks/layout.js';
import { digestOf } from '../../codec/luks/unlock.js';
import { type FormatSamples, type GoodSample, SAMPLE_PASSPHRASE, type WritableSample } from '../../image/samples.js';
import { SECTOR } from '../../storage/cipher.js';
import { MemoryStorage } from '../../storage/memory.js';

/** Little enough work that an image can be opened thousands of times. */
const ITERATIONS = 2;
const STRIPES = 2;
const UNIT = 4096;

interface Recipe {
  readonly mode: string;
  readonly keyBytes: number;
  readonly hash: string;
  /** The slots that the passphrase opens. */
  readonly slots?: readonly number[];
  /** Sectors between the last slot and the data. */
  readonly gap?: number;
}

const RECIPES: readonly (readonly [name: string, Recipe])[] = [
  ['aes-256 xts', { mode: 'xts-plain64', keyBytes: 64, hash: 'sha256' }],
  ['aes-128 xts, last slot', { mode: 'xts-plain64', keyBytes: 32, hash: 'sha512', slots: [7] }],
  ['aes-192 cbc, essiv', { mode: 'cbc-essiv:sha256', keyBytes: 24, hash: 'sha1', slots: [3, 5] }],
  ['aes-128 cbc, 32-bit numbers', { mode: 'cbc-plain', keyBytes: 16, hash: 'sha256', gap: 100 }],
];

export const samples: FormatSamples = {
  good: () => RECIPES.map(([name, recipe], n) => good(name, recipe, bytesFrom(n + 1, 20 * SECTOR + n * SECTOR))),
  broken: () => [
    { name: 'version 2', image: changed((header) => header.writeUInt8(2, 7)), fails: 'open', reason: 'unsupported' },
    { name: 'version 3', image: changed((header) => header.writeUInt8(3, 7)), fails: 'open', reason: 'unsupported' },
    { name: 'a cipher we lack', image: changed((h) => h.write('serpent\0', 8)), fails: 'open', reason: 'unsupported' },
    { name: 'a key that is not its digest', image: changed(flip(112)), fails: 'open', reason: 'passphrase' },
  ],
  specimens: () => [],
  wholeAtAnyLength:
    'the length of the file decides the size of the disk; the fields of the header have a test of their own',
  // Never resized: growing writes as it goes, so that a crash may leave any length between.
  writable: () => RECIPES.slice(0, 3).map(([name, recipe]) => writable(name, recipe)),
};

function good(name: string, recipe: Recipe, disk: Uint8Array): GoodSample {
  return { name, image: luksImage(recipe, disk), disk, snapshots: [] };
}

function writable(name: string, recipe: Recipe): WritableSample {
  return {
    name,
    unit: UNIT,
    files: (units) => [
      { name: 'image', role: 'image', bytes: () => luksImage(recipe, bytesFrom(units, units * UNIT)) },
    ],
    qemu: 'nothing',
    wholeSectors: true,
  };
}

/** A container that SAMPLE_PASSPHRASE opens. */
export function luksImage({ mode, keyBytes, hash, slots = [0], gap = 0 }: Recipe, disk: Uint8Array): Buffer {
  const slotSectors = Math.ceil((keyBytes * STRIPES) / SECTOR);
  const first = 8;
  const payloadOffset = (first + SLOTS * slotSectors + gap) * SECTOR;
  const key = bytesFrom(keyBytes, keyBytes);
  const bare: HeaderFields = {
    cipher: 'aes',
    mode,
    hash,
    payloadOffset,
    keyBytes,
    digest: Buffer.alloc(20),
    digestSalt: bytesFrom(1, SALT_BYTES),
    digestIterations: ITERATIONS,
    uuid: '01234567-89ab-4cde-8f01-23456789abcd',
    slots: Array.from({ length: SLOTS }, (_, n) => ({
      state: 'inactive',
      iterations: 0,
      salt: Buffer.alloc(SALT_BYTES),
      keyOffset: (first + n * slotSectors) * SECTOR,
      stripes: STRIPES,
    })),
  };
  const header = { ...bare, digest: digestOf(bare, key) };
  const storage = new MemoryStorage('sample', payloadOffset + disk.length);
  storage.write(encodeHeader(header), 0);
  const making = { random: (count: number) => bytesFrom(count, count), iterations: ITERATIONS };
  for (const slot of slots) addKey(storage, header, { slot, key, passphrase: Buffer.from(SAMPLE_PASSPHRASE), making });
  const cipher = aesSectors(cipherOf(header, 'sample'), key);
  const sealed = Buffer.alloc(disk.length);
  cipher.encrypt(disk, sealed, 0);
  cipher.close();
  storage.write(sealed, payloadOffset);
  return storage.bytes();
}

function changed(change: (image: Buffer) => void): Buffer {
  const [, recipe] = RECIPES[0] as (typeof RECIPES)[number];
  const image = luksImage(recipe, bytesFrom(1, UNIT));
  change(image);
  return image;
}

function flip(at: number): (image: Buffer) => void {
  return (image) => {
    image.writeUInt8(255 - image.readUInt8(at), at);
  };
}

function bytesFrom(seed: number, length: number): Buffer {
  const bytes = Buffer.alloc(length);
  let state = seed;
  for (let n = 0; n < length; n++) {
    state = (state * 1_103_515_245 + 12_345) % 2 ** 31;
    bytes[n] = state / 2 ** 16;
  }
  return bytes;
}
