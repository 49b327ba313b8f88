import { expect } from 'chai';
import { qcow2 } from '../../src/formats/qcow2/index.js';
import { SampleImage } from '../../src/formats/qcow2/samples/image.js';
import type { Image } from '../../src/image/image.js';
import { checkTable, DEFAULT_LIMITS, type Limits, type TableClaim } from '../../src/image/limits.js';
import { MappedImage } from '../../src/image/mapping.js';
import { MemoryStorage } from '../../src/storage/memory.js';
import { closedContext } from '../support/images.js';
import { outcome } from '../support/outcome.js';

const STORAGE = new MemoryStorage('image', 2 ** 30);

function checked(claim: Partial<TableClaim>): string {
  const whole = { name: 't', at: 0, entries: 1, entryBytes: 8, maxBytes: 4096, alignment: 512, ...claim };
  return outcome(() => void checkTable(STORAGE, whole));
}

function opened(recipe: SampleImage, limits: Partial<Limits>, use: (image: Image) => void = () => {}): string {
  return outcome(() => {
    const image = qcow2.open(MemoryStorage.from(recipe.build()), closedContext(limits));
    use(image);
    image.close();
  });
}

describe('hostile: limits', () => {
  it('limit-table: every check of a table, at its edge and one past it', () => {
    expect(checked({ entries: 512 })).to.equal('done');
    expect(checked({ entries: 513 })).to.equal('limit');
    expect(checked({ at: 2 ** 30 - 512, entries: 64 })).to.equal('done');
    expect(checked({ at: 2 ** 30 - 512, entries: 65 })).to.equal('truncated');
    expect(checked({ at: 2 ** 30 })).to.equal('truncated');
    expect(checked({ at: 511 })).to.equal('corrupt');
    expect(checked({ at: 2 ** 52 })).to.equal('truncated');
    expect(checked({ entries: 0, at: 511 })).to.equal('done');
    for (const entries of [2 ** 53 - 1, 2 ** 50]) expect(checked({ entries })).to.equal('limit');
    for (const entries of [-1, 0.5, Number.NaN, 2 ** 53]) expect(checked({ entries })).to.equal('corrupt');
    for (const at of [-512, 0.5, Number.NaN, 2 ** 53]) expect(checked({ at })).to.equal('corrupt');
  });

  it('limit-virtual-size: 2 PiB by default, and what is asked for', () => {
    expect(DEFAULT_LIMITS.virtualSize).to.equal(2 ** 51);
    const recipe = new SampleImage({ size: 2 ** 20 });
    expect(opened(recipe, { virtualSize: 2 ** 20 })).to.equal('done');
    expect(opened(recipe, { virtualSize: 2 ** 20 - 1 })).to.equal('limit');
  });

  it('limit-table-bytes: tables read as a whole', () => {
    const recipe = new SampleImage({ size: 512 * 64 * 64, clusterBits: 9 });
    expect(opened(recipe, { tableBytes: 512 })).to.equal('done');
    expect(opened(recipe, { tableBytes: 511 })).to.equal('limit');
  });

  it('limit-snapshots: their number', () => {
    const recipe = new SampleImage({ size: 2 ** 20 }).snapshot('a').snapshot('b').snapshot('c');
    expect(opened(recipe, { snapshots: 3 })).to.equal('done');
    expect(opened(recipe, { snapshots: 2 })).to.equal('limit');
  });

  it('limit-cache: an image with more tables than the cache holds is read right, and the cache stays small', () => {
    const recipe = new SampleImage({ size: 512 * 64 * 200, clusterBits: 9 });
    for (let n = 0; n < 200; n++) recipe.write(n * 512 * 64, new Uint8Array(512).fill(n + 1));
    let wrong = 0;
    const use = (image: Image): void => {
      for (let trial = 0; trial < 1000; trial++) {
        const n = (trial * 77) % 200;
        const into = new Uint8Array(1);
        image.read(into, n * 512 * 64);
        if (into[0] !== n + 1) wrong++;
      }
    };
    for (const cacheBytes of [0, 1, 512, 1024, DEFAULT_LIMITS.cacheBytes]) {
      expect(opened(recipe, { cacheBytes }, use)).to.equal('done');
    }
    expect(wrong).to.equal(0);
  });

  it('limit-unpacked: unpacked units are kept up to the limit and no further', () => {
    for (const [unpackedBytes, kept] of [
      [4 * 4096, 4],
      [4 * 4096 - 1, 3],
      [0, 1],
    ] as const) {
      let unpacked = 0;
      const layer = {
        size: 2 ** 20,
        blockSize: 4096,
        info: { format: 'test', dirty: false, encrypted: false, compressed: false },
        map: (at: number, length: number) => ({
          kind: 'packed' as const,
          length: Math.min(length, 4096 - (at % 4096)),
          unit: { key: Math.floor(at / 4096), size: 4096, skip: at % 4096, unpack: () => void unpacked++ },
        }),
        hostBytes: () => 0,
        close: () => {},
      };
      const image = new MappedImage({ layer, unpackedBytes });
      for (const round of [1, 2]) {
        for (let n = 0; n < kept; n++) image.read(new Uint8Array(16), n * 4096 + 8 * round);
        expect(unpacked, `${unpackedBytes}`).to.equal(kept);
      }
      for (let n = 0; n <= kept; n++) image.read(new Uint8Array(16), n * 4096);
      for (let n = 0; n <= kept; n++) image.read(new Uint8Array(16), n * 4096);
      expect(unpacked).to.be.greaterThan(kept + 1);
      image.close();
    }
  });
});
