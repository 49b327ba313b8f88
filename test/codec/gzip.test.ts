import { constants, gzipSync } from 'node:zlib';
import { expect } from 'chai';
import { indexGzip } from '../../src/codec/gzip/gunzip.js';
import { GunzippedStorage } from '../../src/storage/gunzipped.js';
import { MemoryStorage } from '../../src/storage/memory.js';
import { outcome } from '../support/outcome.js';
import { Random } from '../support/seed.js';

/** Text-like, random and constant stretches. */
function mixed(length: number, random: Random): Buffer {
  const bytes = Buffer.alloc(length);
  for (let at = 0; at < length; ) {
    const run = Math.min(length - at, 1 + random.below(50_000));
    const kind = random.below(3);
    if (kind === 0) bytes.set(random.bytes(run), at);
    else if (kind === 1) for (let n = 0; n < run; n++) bytes[at + n] = 97 + (((n * n) >> 5) % 20);
    at += run;
  }
  return bytes;
}

function agrees(plain: Buffer, packed: Uint8Array, random: Random): void {
  const first = new GunzippedStorage(MemoryStorage.from(packed, 'packed'));
  // As another thread would: from the places alone.
  const storage = new GunzippedStorage(MemoryStorage.from(packed, 'packed'), structuredClone(first.index));
  expect(storage.size()).to.equal(plain.length);
  for (let n = 0; n < 25; n++) {
    const at = random.below(plain.length + 1);
    const into = Buffer.alloc(random.below(100_000));
    const got = storage.read(into, at);
    expect(got).to.equal(Math.min(into.length, plain.length - at));
    expect(into.subarray(0, got).equals(plain.subarray(at, at + got))).to.equal(true);
  }
  const all = Buffer.alloc(plain.length);
  storage.read(all, 0);
  expect(all.equals(plain)).to.equal(true);
}

describe('gzip, read here and there', () => {
  const random = new Random();

  it('yields what zlib packed, at every level and by every strategy', () => {
    const plain = mixed(3_000_000, random);
    const { Z_DEFAULT_STRATEGY, Z_FILTERED, Z_HUFFMAN_ONLY, Z_RLE, Z_FIXED } = constants;
    for (const level of [0, 1, 6, 9]) agrees(plain, gzipSync(plain, { level }), random);
    for (const strategy of [Z_DEFAULT_STRATEGY, Z_FILTERED, Z_HUFFMAN_ONLY, Z_RLE, Z_FIXED]) {
      agrees(plain, gzipSync(plain, { strategy }), random);
    }
  });

  it('yields files of every length around a page, and members one after the other', () => {
    for (const length of [0, 1, 65_535, 65_536, 65_537, 131_072]) {
      const plain = mixed(length, random);
      agrees(plain, gzipSync(plain), random);
      agrees(
        Buffer.concat([plain, plain]),
        Buffer.concat([gzipSync(plain), gzipSync(plain), Buffer.alloc(99)]),
        random,
      );
    }
  });

  it('keeps a bounded number of places, however long the file is', () => {
    const { size, places } = indexGzip(
      MemoryStorage.from(gzipSync(Buffer.alloc(530 * 2 ** 20), { level: 1 }), 'zeros'),
    );
    expect(size).to.equal(530 * 2 ** 20);
    expect(places.length).to.be.within(256, 512);
  }).timeout(60_000);

  it('bomb-gzip: stops where a limit is reached', () => {
    const packed = MemoryStorage.from(gzipSync(Buffer.alloc(2 ** 20)), 'zeros');
    expect(outcome(() => void indexGzip(packed, 2 ** 20))).to.equal('done');
    expect(outcome(() => void indexGzip(packed, 2 ** 20 - 1))).to.equal('limit');
  });

  it('refuses what is damaged, and never more than that', () => {
    const plain = mixed(150_000, random);
    const whole = gzipSync(plain);
    for (let n = 0; n < 400; n++) {
      let bytes: Buffer = Buffer.from(whole);
      for (let changes = random.below(3); changes >= 0; changes--) {
        bytes[random.below(random.below(2) === 0 ? 300 : bytes.length)] = random.below(256);
      }
      if (n % 4 === 0) bytes = bytes.subarray(0, random.below(bytes.length));
      expect(outcome(() => void indexGzip(MemoryStorage.from(bytes, 'packed')))).to.be.oneOf(['done', 'corrupt']);
    }
    for (let length = 0; length < whole.length; length += 997) {
      expect(outcome(() => void indexGzip(MemoryStorage.from(whole.subarray(0, length), 'cut')))).to.equal('corrupt');
    }
  });
});
