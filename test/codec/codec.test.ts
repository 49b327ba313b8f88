import { constants, inflateRawSync } from 'node:zlib';
import { expect } from 'chai';
import { deflate, deflateZlib, inflate, inflateZlib } from '../../src/codec/inflate.js';
import { libDeflate } from '../../src/codec/libdeflate.js';
import { type PackMethod, pack } from '../../src/codec/pack.js';
import {
  libZstd,
  nodeZstd,
  prepareCodecs,
  wasmZstd,
  type ZstdBackend,
  zstdCompress,
  zstdDecompress,
} from '../../src/codec/zstd.js';
import { readZstdFrame, storedZstdFrame } from '../../src/codec/zstd-frame.js';
import { skipBecause } from '../support/scratch.js';
import { Random, SEED } from '../support/seed.js';

const UNIT = 65_536;

function plain(seed: number): Buffer {
  const bytes = new Random(seed).bytes(UNIT);
  return bytes.fill('a text that comes back ', UNIT / 4, UNIT / 2).fill(0, UNIT / 2);
}

/** The frame `zstd -19 --check` makes of "imgfs " 20 times: sizes in one byte, a compressed block, a checksum. */
const REAL_FRAME = Buffer.from('28b52ffd24786d000030696d6766732001002f692902397a85f0', 'hex');

describe('inflate', () => {
  it('ignores what follows the stream', () => {
    const bytes = plain(1);
    const into = new Uint8Array(UNIT);
    expect(inflate(Buffer.concat([deflate(bytes), Buffer.alloc(511, 0xaa)]), into)).to.equal(UNIT);
    expect(bytes.equals(into)).to.equal(true);
  });

  it('yields what a cut stream holds', () => {
    const packed = deflate(plain(2));
    const got = inflate(packed.subarray(0, packed.length / 2), new Uint8Array(UNIT));
    expect(got).to.be.within(1, UNIT - 1);
  });

  it('never yields more than asked for', () => {
    expect(inflate(deflate(new Uint8Array(64 * 1024 * 1024)), new Uint8Array(UNIT))).to.equal(undefined);
    expect(inflate(deflate(new Uint8Array(UNIT + 1)), new Uint8Array(UNIT))).to.equal(undefined);
  });

  it('tells damage', () => {
    expect(inflate(Buffer.alloc(1000, 0xff), new Uint8Array(UNIT))).to.equal(undefined);
    expect(inflate(Buffer.alloc(1000), new Uint8Array(UNIT))).to.equal(undefined);
    expect(inflate(Buffer.alloc(0), new Uint8Array(UNIT))).to.equal(0);
  });

  it('by libdeflate yields what zlib yields, or nothing', function () {
    const fast = libDeflate();
    if (fast === undefined) return skipBecause(this, 'libdeflate.so.0 is not installed');
    for (let n = 0; n < 200; n++) {
      const random = Random.forCase(SEED, n);
      const bytes = plain(n).subarray(0, 1 + random.below(UNIT));
      const packed = Buffer.from(deflate(bytes));
      const whole = new Uint8Array(UNIT);
      expect(fast.inflate(packed, whole), `case ${n} of seed ${SEED}`).to.equal(bytes.length);
      expect(bytes.equals(whole.subarray(0, bytes.length))).to.equal(true);
      packed[random.below(packed.length)]! ^= 1 << random.below(8);
      const damaged = new Uint8Array(UNIT);
      const got = fast.inflate(packed, damaged);
      if (got === undefined) continue;
      const expected = inflateRawSync(packed, { finishFlush: constants.Z_SYNC_FLUSH });
      expect(expected.equals(damaged.subarray(0, got)), `case ${n} of seed ${SEED}`).to.equal(true);
    }
    const zlib = deflateZlib(plain(5));
    expect(fast.inflateZlib(zlib, new Uint8Array(UNIT))).to.equal(UNIT);
    zlib[zlib.length - 1]! ^= 1;
    expect(fast.inflateZlib(zlib, new Uint8Array(UNIT)), 'a wrong checksum').to.equal(undefined);
    expect(inflateZlib(zlib, new Uint8Array(UNIT))).to.equal(undefined);
  });
});

describe('zstd frames', () => {
  it('end where their last block ends', () => {
    const frame = storedZstdFrame(plain(3));
    const found = readZstdFrame(Buffer.concat([frame, Buffer.alloc(300, 0x28)]));
    expect(found).to.deep.equal({ length: frame.length, contentSize: UNIT });
  });

  it('are refused when cut short or of another kind', () => {
    const frame = storedZstdFrame(plain(4));
    for (const length of [0, 3, 5, 8, 11, frame.length - 1]) {
      expect(readZstdFrame(frame.subarray(0, length)), String(length)).to.equal(undefined);
    }
    expect(readZstdFrame(Buffer.alloc(100))).to.equal(undefined);
    expect(readZstdFrame(Buffer.from('28b52ffd0300010203040506', 'hex')), 'dictionary').to.equal(undefined);
  });
});

const BACKENDS: readonly (readonly [ZstdBackend['name'], () => Promise<ZstdBackend | undefined>])[] = [
  ['node', async () => nodeZstd()],
  ['libzstd', async () => libZstd()],
  ['wasm', wasmZstd],
];

for (const [name, make] of BACKENDS) {
  if (name === 'node' && nodeZstd() === undefined) {
    before(() => console.log('      - zstd by node (does not apply: it came with Node 22.15)'));
    continue;
  }
  describe(`zstd by ${name}`, () => {
    let backend: ZstdBackend;

    before(async function () {
      const made = await make();
      if (made === undefined) {
        console.log(`skipped: ${name} has no zstd here`);
        this.skip();
      } else backend = made;
    });

    it('decodes one frame and ignores what follows', () => {
      const bytes = plain(5);
      const frame = storedZstdFrame(bytes);
      for (const tail of [Buffer.alloc(0), Buffer.alloc(300), Buffer.alloc(300, 0xfd), frame]) {
        const into = new Uint8Array(UNIT);
        expect(zstdDecompress(Buffer.concat([frame, tail]), into, backend)).to.equal(UNIT);
        expect(bytes.equals(into)).to.equal(true);
      }
    });

    it('decodes what a real compressor makes', () => {
      const into = Buffer.alloc(120);
      expect(zstdDecompress(REAL_FRAME, into, backend)).to.equal(120);
      expect(into.toString()).to.equal('imgfs '.repeat(20));
    });

    it('never yields more than asked for, whatever the header claims', () => {
      const frame = Buffer.from(storedZstdFrame(new Uint8Array(UNIT * 4)));
      expect(zstdDecompress(frame, new Uint8Array(UNIT), backend)).to.equal(undefined);
      frame.writeUInt32LE(UNIT, 5);
      expect(zstdDecompress(frame, new Uint8Array(UNIT), backend)).to.equal(undefined);
      frame.writeUInt32LE(0xffffffff, 5);
      expect(zstdDecompress(frame, new Uint8Array(UNIT), backend)).to.equal(undefined);
    });

    it('decodes a frame that does not tell its size, within bounds', () => {
      const sized = Buffer.from(storedZstdFrame(plain(6)));
      // Same blocks behind a header without a content size: descriptor 0, a window of 128 KiB.
      const frame = Buffer.concat([sized.subarray(0, 4), Buffer.from([0, 7 << 3]), sized.subarray(9)]);
      const into = new Uint8Array(UNIT);
      expect(zstdDecompress(frame, into, backend)).to.equal(UNIT);
      expect(plain(6).equals(into)).to.equal(true);
      expect(zstdDecompress(frame, new Uint8Array(UNIT / 2), backend)).to.equal(undefined);
    });

    it('packs what it unpacks, and only where that is smaller', () => {
      const bytes = plain(8);
      const packed = zstdCompress(bytes, backend) ?? Buffer.alloc(0);
      expect(packed.length).to.be.within(1, UNIT - 1);
      const into = Buffer.alloc(UNIT);
      expect(zstdDecompress(packed, into, backend)).to.equal(UNIT);
      expect(bytes.equals(into)).to.equal(true);
      expect(zstdCompress(new Random(9).bytes(UNIT), backend)).to.equal(undefined);
    });

    it('survives random damage', () => {
      const random = new Random();
      const frame = storedZstdFrame(plain(7));
      for (let i = 0; i < 200; i++) {
        const bad = Buffer.from(i % 2 === 0 ? frame : REAL_FRAME);
        bad[4 + random.below(Math.min(60, bad.length - 4))] = random.below(256);
        const got = zstdDecompress(bad, new Uint8Array(UNIT), backend);
        if (got !== undefined) expect(got).to.be.within(0, UNIT);
      }
    });
  });
}

describe('packing', () => {
  const readers: Record<PackMethod, (packed: Uint8Array, into: Uint8Array) => number | undefined> = {
    deflate: inflate,
    zlib: inflateZlib,
    zstd: zstdDecompress,
  };
  for (const method of ['deflate', 'zlib', 'zstd'] as const) {
    it(`by ${method} comes back, and says where it does not pay`, async () => {
      await prepareCodecs();
      const noise = new Random(10).bytes(UNIT);
      for (const bytes of [plain(9), Buffer.alloc(512, 7), noise]) {
        const packed = pack(method, bytes);
        expect(packed === undefined).to.equal(bytes === noise && method !== 'zlib');
        if (packed === undefined) continue;
        const into = Buffer.alloc(bytes.length);
        expect(readers[method](packed, into)).to.equal(bytes.length);
        expect(bytes.equals(into)).to.equal(true);
      }
    });
  }
});

describe('prepareCodecs', () => {
  it('leaves a decoder that works synchronously', async () => {
    await prepareCodecs();
    expect(zstdDecompress(REAL_FRAME, new Uint8Array(120))).to.equal(120);
  });
});
