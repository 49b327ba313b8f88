import { createCipheriv, createHash } from 'node:crypto';
import { expect } from 'chai';
import { aesSectors, type CipherSpec, keyBytesOf } from '../../src/codec/crypt/sector-cipher.js';
import { Random } from '../support/seed.js';

const SECTOR = 512;

/** IEEE 1619-2007, annex B: vectors 10 to 14 of XTS-AES-256 and 4 of XTS-AES-128, one sector each. */
const XTS_256 = Buffer.from(
  '27182818284590452353602874713526624977572470936999595749669676273141592653589793238462643383279502884197169399375105820974944592',
  'hex',
);
const XTS_128 = Buffer.from('2718281828459045235360287471352631415926535897932384626433832795', 'hex');
const XTS_VECTORS: readonly (readonly [key: Buffer, sector: number, firstBlock: string])[] = [
  [XTS_256, 0xff, '1c3b3a102f770386e4836c99e370cf9b'],
  [XTS_256, 0xffff, '77a31251618a15e6b92d1d66dffe7b50'],
  [XTS_256, 0xffffff, 'e387aaa58ba483afa7e8eb469778317e'],
  [XTS_256, 0xffffffff, 'bf53d2dade78e822a4d949a9bc6766b0'],
  [XTS_256, 0xffffffffff, '64497e5a831e4a932c09be3e5393376d'],
  [XTS_128, 0, '27a7479befa1d476489f308cd4cfa6e2'],
];

/** One sector at a time with OpenSSL's own modes: what the fast way must agree with. */
function oneByOne(spec: CipherSpec, key: Buffer, bytes: Buffer, first: number): Buffer {
  const sectors = [];
  for (let at = 0; at < bytes.length; at += SECTOR) {
    const iv = Buffer.alloc(16);
    const number = BigInt(first + at / SECTOR);
    if (spec.generator === 'plain') iv.writeUInt32LE(Number(number % 2n ** 32n));
    else iv.writeBigUInt64LE(number);
    const salt = createHash(spec.generatorHash ?? 'sha256')
      .update(key)
      .digest();
    const used =
      spec.generator === 'essiv'
        ? createCipheriv(`aes-${salt.length * 8}-ecb`, salt, null)
            .setAutoPadding(false)
            .update(iv)
        : iv;
    const bits = (spec.mode === 'xts' ? key.length / 2 : key.length) * 8;
    const cipher = createCipheriv(`aes-${bits}-${spec.mode}`, key, used).setAutoPadding(false);
    sectors.push(cipher.update(bytes.subarray(at, at + SECTOR)), cipher.final());
  }
  return Buffer.concat(sectors);
}

const SPECS: readonly CipherSpec[] = (['xts', 'cbc'] as const).flatMap((mode) => [
  { mode, generator: 'plain64' as const },
  { mode, generator: 'plain' as const },
  { mode, generator: 'essiv' as const, generatorHash: 'sha256' },
  { mode, generator: 'essiv' as const, generatorHash: 'md5' },
]);

describe('sectors in AES', () => {
  it('XTS: the vectors of IEEE 1619', () => {
    const plain = Buffer.from(Array.from({ length: SECTOR }, (_, n) => n % 256));
    for (const [key, sector, firstBlock] of XTS_VECTORS) {
      const cipher = aesSectors({ mode: 'xts', generator: 'plain64' }, key);
      const into = Buffer.alloc(SECTOR);
      cipher.encrypt(plain, into, sector);
      expect(into.toString('hex', 0, 16)).to.equal(firstBlock);
      cipher.decrypt(into, sector);
      expect(into.equals(plain)).to.equal(true);
      cipher.close();
    }
  });

  it('CBC: the vectors of NIST SP 800-38A', () => {
    // F.2.5. Sector 0 has an IV of zeros: the vector's own is mixed into its first block.
    const key = Buffer.from('603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4', 'hex');
    const cipher = aesSectors({ mode: 'cbc', generator: 'plain64' }, key);
    const into = Buffer.alloc(SECTOR);
    const plain = Buffer.alloc(SECTOR);
    const iv = Buffer.from('000102030405060708090a0b0c0d0e0f', 'hex');
    const blocks = '6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e5130c81c46a35ce411e5fbc1191a0a52ef';
    Buffer.from(blocks, 'hex').copy(plain);
    for (let i = 0; i < 16; i++) plain[i]! ^= iv[i]!;
    cipher.encrypt(plain, into, 0);
    expect(into.toString('hex', 0, 48)).to.equal(
      'f58c4c04d6e5f1ba779eabfb5f7bfbd69cfc4e967edb808d679f777bc6702c7d39f23369a9d9bacfa530e26304231461',
    );
    cipher.close();
  });

  for (const spec of SPECS) {
    for (const bytes of keyBytesOf(spec.mode)) {
      // OpenSSL has no XTS of 192 bits, and refuses two equal halves.
      const judged = !(spec.mode === 'xts' && bytes === 48);
      const name = `${spec.mode}-${spec.generator}${spec.generator === 'essiv' ? `:${spec.generatorHash}` : ''}`;
      it(`${name}, ${bytes * 8} bits of key: any number of sectors, any address, there and back`, () => {
        const random = new Random(bytes);
        const key = random.bytes(bytes);
        const cipher = aesSectors(spec, key);
        for (const sectors of [1, 2, 3, 8, 255, 256, 257, 600]) {
          for (const shift of sectors < 300 ? [0, 1, 4] : [0]) {
            const memory = random.bytes(shift + sectors * SECTOR);
            const plain = memory.subarray(shift);
            const first = random.below(2) === 0 ? random.below(1e6) : 2 ** 32 - 3;
            const before = Buffer.from(plain);
            const into = Buffer.alloc(shift + sectors * SECTOR).subarray(shift);
            cipher.encrypt(plain, into, first);
            expect(plain.equals(before), 'the caller keeps its bytes').to.equal(true);
            if (judged)
              expect(into.equals(oneByOne(spec, key, plain, first)), `${sectors} from ${first}`).to.equal(true);
            cipher.encrypt(plain, plain, first);
            expect(plain.equals(into), 'in place').to.equal(true);
            cipher.decrypt(into, first);
            expect(into.equals(before)).to.equal(true);
          }
        }
        cipher.close();
      });
    }
  }
});
