import { expect } from 'chai';
import { readHeader } from '../../../src/formats/qcow2/header.js';
import { qcow2 } from '../../../src/formats/qcow2/index.js';
import { decodePacked } from '../../../src/formats/qcow2/read/layout.js';
import { Refcounts } from '../../../src/formats/qcow2/read/refcounts.js';
import { SampleImage, type SampleOptions } from '../../../src/formats/qcow2/samples/image.js';
import { layOut } from '../../../src/formats/qcow2/samples/lay-out.js';
import { DEFAULT_LIMITS } from '../../../src/image/limits.js';
import { asBuffer } from '../../../src/lib/bits.js';
import { ImgfsError } from '../../../src/lib/errors.js';
import { MemoryStorage } from '../../../src/storage/memory.js';
import { closedContext } from '../../support/images.js';

describe('qcow2 refcounts', () => {
  for (const refcountBits of [1, 2, 4, 8, 16, 32, 64]) {
    it(`of ${refcountBits} bits`, () => {
      const recipe = new SampleImage({ size: 512 * 200, clusterBits: 9, refcountBits });
      recipe.write(0, new Uint8Array(512 * 150).fill(1));
      if (refcountBits > 1) recipe.snapshot('twice');
      const { image, l1At } = layOut(recipe);
      const storage = MemoryStorage.from(image);
      const refcounts = new Refcounts(storage, readHeader(storage, DEFAULT_LIMITS));
      const counts = Array.from({ length: image.length / 512 }, (_, cluster) => refcounts.at(cluster));
      const shared = counts.filter((count) => count === 2).length;
      expect(shared).to.equal(refcountBits > 1 ? 150 : 0);
      expect(counts.every((count) => count === 1 || count === 2)).to.equal(true);
      expect(refcounts.at(l1At / 512)).to.equal(1);
      expect(refcounts.at(2 ** 40)).to.equal(0);
      expect(refcounts.used(counts.length, 10_000)).to.equal(counts.length);
      expect(refcounts.used(counts.length, 5)).to.equal(5);
    });
  }
});

describe('qcow2 compressed cluster descriptors', () => {
  /** x = 62 - (cluster_bits - 8): the sector count shrinks the offset as clusters grow. */
  for (const clusterBits of [9, 12, 16, 21]) {
    it(`of clusters of 2^${clusterBits} bytes, with every bit set`, () => {
      const sectors = 2 ** (clusterBits - 8);
      const x = 62 - (clusterBits - 8);
      const high = 2 ** 30 + (sectors - 1) * 2 ** (x - 32) + 5;
      const place = decodePacked(high, 4_294_967_295, clusterBits, 'it');
      expect(place).to.deep.equal({ offset: 5 * 2 ** 32 + 4_294_967_295, length: sectors * 512 - 511 });
    });
  }

  it('past 2^53 are refused', () => {
    expect(() => decodePacked(2 ** 30 + 2 ** 21, 0, 9, 'it')).to.throw(ImgfsError, /beyond 2\^53/);
  });
});

describe('qcow2 limits, at each and one past it', () => {
  const opened = (options: SampleOptions, change: (image: Buffer) => void = () => {}) => {
    const image = new SampleImage(options).build();
    change(asBuffer(image));
    return () => {
      const disk = qcow2.open(MemoryStorage.from(image, 'it'), closedContext());
      disk.snapshots();
      return disk.info.specific;
    };
  };

  it('1023 bytes of backing file name', () => {
    const size = 65_536;
    expect(opened({ size, backing: { name: 'n'.repeat(1023) } })).not.to.throw();
    expect(opened({ size, backing: { name: 'n'.repeat(1024) } })).to.throw(ImgfsError, /too long/);
  });

  it('the virtual size', () => {
    const at = DEFAULT_LIMITS.virtualSize;
    expect(opened({ size: at, clusterBits: 21 })).not.to.throw();
    expect(opened({ size: at + 512, clusterBits: 21 })).to.throw(ImgfsError, /the limit is/);
  });

  it('32 MiB of L1 table', () => {
    const entries = 2 ** 22;
    expect(opened({ size: entries * 64 * 512, clusterBits: 9 })).not.to.throw();
    expect(opened({ size: entries * 64 * 512 + 1, clusterBits: 9 })).to.throw(ImgfsError, /L1 table is/);
  });

  it('1 KiB of extra data in a snapshot', () => {
    const withExtra = (length: number) => () => {
      const recipe = new SampleImage({ size: 65_536 }).snapshot('x'.repeat(2000));
      const { image, snapshotsAt } = layOut(recipe);
      asBuffer(image).writeUInt32BE(length, snapshotsAt + 36);
      qcow2.open(MemoryStorage.from(image, 'it'), closedContext()).snapshots();
    };
    expect(withExtra(1024)).not.to.throw();
    expect(withExtra(1025)).to.throw(ImgfsError, /1025 bytes of extra data/);
  });

  it('2000 snapshots are listed, in order', () => {
    const recipe = new SampleImage({ size: 512, clusterBits: 9 });
    for (let n = 0; n < 2000; n++) recipe.snapshot(`snapshot ${n}`);
    const image = qcow2.open(MemoryStorage.from(recipe.build()), closedContext());
    expect(image.snapshots().map(({ name }) => name)[1999]).to.equal('snapshot 1999');
  });

  it('bitmaps, with their flags', () => {
    const bitmaps = [
      { name: 'a', granularity: 512, inUse: true, auto: false },
      { name: 'b', granularity: 2 ** 31, inUse: false, auto: true },
    ];
    const data = opened({ size: 2 ** 20, bitmaps })()?.data;
    expect(data?.bitmaps).to.deep.equal([
      { name: 'a', granularity: 512, flags: ['in-use'] },
      { name: 'b', granularity: 2 ** 31, flags: ['auto'] },
    ]);
    const stale = opened({ size: 2 ** 20, bitmaps }, (image) => image.writeUInt8(0, 95))()?.data;
    expect(stale?.bitmaps).to.equal(undefined);
  });
});
