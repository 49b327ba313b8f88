import { expect } from 'chai';
import { commitDisk } from '../../src/convert/commit.js';
import { paced } from '../../src/convert/paced.js';
import type { Image } from '../../src/image/image.js';
import { readAll } from '../support/images.js';
import { Random, SEED } from '../support/seed.js';
import { badFailures, badStates, Chain, type Change, chainOf, type Recipe, storagesOf } from './chain.js';

const KIB = 1024;

const SMALL = { cluster_size: 4096 };

/** Top first. */
const RECIPES: readonly Recipe[] = [
  { formats: ['qcow2', 'qcow2'], values: SMALL },
  { formats: ['qcow2', 'qcow2', 'raw'], values: SMALL },
  { formats: ['qcow2', 'raw'], sizes: [96 * KIB, 64 * KIB], values: SMALL },
  { formats: ['qcow2', 'qcow2'], sizes: [96 * KIB, 40 * KIB], values: SMALL },
  { formats: ['qcow2', 'qcow2'], sizes: [40 * KIB, 96 * KIB], values: { ...SMALL, compat: '0.10' } },
  { formats: ['qcow', 'qcow'] },
  { formats: ['qcow', 'raw'], sizes: [64 * KIB, 30_000] },
  { formats: ['cow', 'raw'] },
  { formats: ['qcow2', 'vdi'], values: SMALL },
  { formats: ['qcow2', 'vmdk'], values: SMALL },
];

/** Of these every operation is made to fail. */
const SWEPT: ReadonlySet<number> = new Set([2, 4, 5, 7]);

function titleOf({ formats, sizes, values }: Recipe): string {
  return `${formats.join(' over ')}${sizes === undefined ? '' : `, of ${sizes.join(' and ')} bytes`}${values?.compat === undefined ? '' : `, ${values.compat}`}`;
}

function baseOf(image: Image, depth: number): Image {
  if (depth === 0) return image;
  if (image.backing === undefined) throw new Error('the chain is too short');
  return baseOf(image.backing, depth - 1);
}

function change(chain: Chain, depth: number, empty: boolean): Change {
  return {
    chain,
    writable: [0, depth],
    make(top) {
      for (const _ of commitDisk({ top, base: baseOf(top, depth), depth, empty }));
    },
  };
}

describe('committing', function () {
  this.timeout(120_000);

  for (const [n, recipe] of RECIPES.entries()) {
    const chain = (): Chain => chainOf(recipe, Random.forCase(SEED, n));

    describe(titleOf(recipe), () => {
      it('leaves the disk, in the base too, and an empty top', () => {
        const { links } = chain();
        const whole = new Chain(links);
        const expected = whole.read(storagesOf(links));
        const image = whole.open(storagesOf(links), [0, 1]);
        change(whole, 1, true).make(image, storagesOf(links));
        image.close();
        expect(whole.read(storagesOf(links)).equals(expected)).to.equal(true);
        const base = new Chain(links.slice(1)).read(storagesOf(links.slice(1)));
        expect(base.subarray(0, expected.length).equals(expected)).to.equal(true);
        const top = whole.open(storagesOf(links), []);
        expect(top.extent(0, top.size).depth, 'the top is empty').to.be.greaterThan(0);
        top.close();
        expect(whole.corruptions(storagesOf(links))).to.deep.equal([]);
      });

      it('shows the same disk whenever the power fails', () => {
        expect(badStates(change(chain(), 1, true))).to.deep.equal([]);
      });

      if (!SWEPT.has(n)) return;
      it('shows the same disk whatever fails, and can be done again', () => {
        const { bad, failed } = badFailures(change(chain(), 1, true));
        expect(bad).to.deep.equal([]);
        expect(failed).to.be.greaterThan(10);
      });
    });
  }

  it('goes past the layers between, and leaves the top as it is', () => {
    const whole = chainOf(
      { formats: ['qcow2', 'qcow2', 'qcow2'], sizes: [96 * KIB, 40 * KIB, 64 * KIB], values: SMALL },
      new Random(),
    );
    const { links } = whole;
    expect(badStates(change(whole, 2, false))).to.deep.equal([]);
    const expected = whole.read(storagesOf(links));
    const image = whole.open(storagesOf(links), [0, 2]);
    change(whole, 2, false).make(image, storagesOf(links));
    expect(readAll(baseOf(image, 2)).equals(expected)).to.equal(true);
    image.close();
    expect(whole.read(storagesOf(links)).equals(expected)).to.equal(true);
  });

  it('would lose data if nothing held writes back: the states are bad ones then', () => {
    const whole = chainOf({ formats: ['qcow2', 'qcow2'], values: SMALL }, new Random());
    expect(badStates(change(whole, 1, true), { barriers: false })).to.not.deep.equal([]);
  });

  it('keeps to a rate', () => {
    let spent = 0;
    function* work(): Generator<number> {
      for (let n = 1; n <= 5; n++) {
        spent += 1000;
        yield n;
      }
    }
    const begun = performance.now();
    const seen = new Set(paced(work(), () => spent, 50_000));
    expect([...seen]).to.deep.equal([1, 2, 3, 4, 5]);
    expect(performance.now() - begun).to.be.greaterThan(95);
  });
});
