import { aesSectors } from '../../codec/crypt/sector-cipher.js';
import { cipherOf } from '../../codec/luks/ciphers.js';
import { pattern } from '../../image/sample-bytes.js';
import { type LuksRecipe, sampleLuks } from '../../image/sample-luks.js';
import type { FormatSamples, GoodSample, WritableSample } from '../../image/samples.js';
import { SECTOR } from '../../storage/cipher.js';

const UNIT = 4096;

const RECIPES: readonly (readonly [name: string, LuksRecipe])[] = [
  ['aes-256 xts', { mode: 'xts-plain64', keyBytes: 64, hash: 'sha256' }],
  ['aes-128 xts, last slot', { mode: 'xts-plain64', keyBytes: 32, hash: 'sha512', slots: [7] }],
  ['aes-192 cbc, essiv', { mode: 'cbc-essiv:sha256', keyBytes: 24, hash: 'sha1', slots: [3, 5] }],
  ['aes-128 cbc, 32-bit numbers', { mode: 'cbc-plain', keyBytes: 16, hash: 'sha256', gap: 100 }],
];

export const samples: FormatSamples = {
  good: () => RECIPES.map(([name, recipe], n) => good(name, recipe, pattern((20 + n) * SECTOR, n + 1))),
  broken: () => [
    { name: 'version 2', image: changed((header) => header.writeUInt8(2, 7)), fails: 'open', reason: 'unsupported' },
    { name: 'version 3', image: changed((header) => header.writeUInt8(3, 7)), fails: 'open', reason: 'unsupported' },
    { name: 'a cipher we lack', image: changed((h) => h.write('serpent\0', 8)), fails: 'open', reason: 'unsupported' },
    { name: 'a key that is not its digest', image: changed(flip(112)), fails: 'open', reason: 'passphrase' },
  ],
  specimens: () => [],
  wholeAtAnyLength:
    'the length of the file decides the size of the disk; the fields of the header have a test of their own',
  writable: () => RECIPES.slice(0, 3).map(([name, recipe]) => writable(name, recipe)),
};

function good(name: string, recipe: LuksRecipe, disk: Uint8Array): GoodSample {
  return { name, image: luksImage(recipe, disk), disk, snapshots: [] };
}

function writable(name: string, recipe: LuksRecipe): WritableSample {
  return {
    name,
    unit: UNIT,
    files: (units) => [{ name: 'image', role: 'image', bytes: () => luksImage(recipe, pattern(units * UNIT, units)) }],
    qemu: 'nothing',
    resize: 'both',
    growsGradually: true,
    wholeSectors: true,
  };
}

/** A container that SAMPLE_PASSPHRASE opens. */
export function luksImage(recipe: LuksRecipe, disk: Uint8Array): Buffer {
  const { head, header, key } = sampleLuks(recipe);
  const sealed = Buffer.alloc(disk.length);
  const cipher = aesSectors(cipherOf(header, 'sample'), key);
  cipher.encrypt(disk, sealed, 0);
  cipher.close();
  return Buffer.concat([head, sealed]);
}

function changed(change: (image: Buffer) => void): Buffer {
  const [, recipe] = RECIPES[0] as (typeof RECIPES)[number];
  const image = luksImage(recipe, pattern(UNIT, 1));
  change(image);
  return image;
}

function flip(at: number): (image: Buffer) => void {
  return (image) => {
    image.writeUInt8(255 - image.readUInt8(at), at);
  };
}
