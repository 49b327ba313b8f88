import { expect } from 'chai';
import { qcow2 } from '../../../src/formats/qcow2/index.js';
import type { NamedFile } from '../../../src/image/image.js';
import { ImgfsError } from '../../../src/lib/errors.js';
import { Journal } from '../../../src/storage/journal.js';
import type { MemoryStorage } from '../../../src/storage/memory.js';
import type { Storage } from '../../../src/storage/storage.js';
import { CrashStates } from '../../crash/states.js';
import { makeImage } from '../../support/creation.js';
import { closedContext } from '../../support/images.js';
import { Random, SEED } from '../../support/seed.js';

const FORMATS = ['raw', 'qcow2', 'a-format-with-a-long-name'] as const;

function namedIn(storage: Storage): NamedFile | undefined {
  const image = qcow2.open(storage, closedContext());
  try {
    return image.info.backing;
  } finally {
    image.close();
  }
}

/** Whether there was room. */
function rename(storage: Storage, backing: NamedFile | undefined): boolean {
  const image = qcow2.open(storage, { ...closedContext(), writable: true });
  try {
    image.changeBacking(backing);
    return true;
  } catch (error) {
    if (error instanceof ImgfsError && error.reason === 'limit') return false;
    throw error;
  } finally {
    image.close();
  }
}

function anyName(random: Random, most: number): NamedFile | undefined {
  if (random.below(6) === 0) return undefined;
  const name = random.pick(['a', 'b', 'c']).repeat(1 + random.below(most));
  return random.below(5) === 0 ? { name } : { name, format: random.pick(FORMATS) };
}

describe('the backing file of a qcow2 image', function () {
  this.timeout(60_000);

  for (const [n, values] of [
    { cluster_size: 512 },
    { cluster_size: 1024 },
    { cluster_size: 4096 },
    { cluster_size: 65_536 },
    { cluster_size: 65_536, compat: '0.10' },
    { cluster_size: 4096, compression_type: 'zstd', lazy_refcounts: true },
  ].entries()) {
    it(`is the old one or the new one at every moment: ${JSON.stringify(values)}`, () => {
      const random = Random.forCase(SEED, n);
      let storage: MemoryStorage = makeImage(qcow2, { values, seed: n }).storage;
      let changed = 0;
      for (let k = 0; k < 24; k++) {
        const most = random.pick([8, 300, 1023]);
        const wanted = anyName(random, Math.min(most, values.cluster_size));
        const before = namedIn(storage);
        const after = storage.copy();
        const journal = new Journal();
        const done = rename(journal.record(after), wanted);
        const expected = done ? wanted : before;
        expect(namedIn(after), `change ${k}`).to.deep.equal(expected);
        if (done) changed++;
        const options = { barriers: true, random, exhaustive: 6, subsets: 8 };
        for (const state of new CrashStates(journal.entries, [storage], options).all()) {
          const [file] = state.files();
          if (file === undefined) throw new Error('a state without its file');
          expect(namedIn(file), `change ${k}, ${state.id}`).to.be.deep.oneOf([before, expected]);
        }
        storage = after;
      }
      expect(changed).to.be.greaterThan(5);
    });
  }

  it('keeps what else the header says, the table of feature names included', () => {
    const { storage } = makeImage(qcow2, { values: { cluster_size: 4096 } });
    const names = (): boolean => storage.bytes().subarray(0, 4096).includes('dirty bit');
    expect(names()).to.equal(true);
    for (const backing of [{ name: 'x'.repeat(700), format: 'raw' }, { name: 'y' }, undefined]) {
      expect(rename(storage, backing)).to.equal(true);
      expect(names()).to.equal(true);
    }
  });
});
