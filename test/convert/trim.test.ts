import { expect } from 'chai';
import { Trim } from '../../src/convert/trim.js';
import { readAll } from '../support/images.js';
import { Random, SEED } from '../support/seed.js';
import { badFailures, badStates, Chain, type Change, type Link, link, storagesOf } from './chain.js';

const KIB = 1024;

interface Case {
  readonly formats: readonly string[];
  readonly values?: Readonly<Record<string, string | number | boolean>>;
  readonly size: number;
}

const CASES: readonly Case[] = [
  { formats: ['qcow2'], values: { cluster_size: 4096 }, size: 128 * KIB },
  { formats: ['qcow2', 'raw'], values: { cluster_size: 4096 }, size: 128 * KIB },
  { formats: ['qcow2'], values: { cluster_size: 16_384, extended_l2: true }, size: 256 * KIB },
  { formats: ['qcow2'], values: { cluster_size: 4096, compat: '0.10' }, size: 128 * KIB },
  { formats: ['qcow'], size: 128 * KIB },
  { formats: ['vmdk'], size: 512 * KIB },
  { formats: ['raw'], size: 128 * KIB },
];

/** Data, stored zeros that are whole units, and some that are not. */
function made({ formats, values = {}, size }: Case, random: Random): Chain {
  let links: readonly Link[] = [];
  for (const format of [...formats].reverse()) {
    links = [
      link(`${links.length}.${format}`, format, links, { size, values: format === 'qcow2' ? values : {} }),
      ...links,
    ];
    new Chain(links).write(0, (image) => {
      image.write(random.bytes(size / 2), 0);
      image.write(Buffer.alloc(size / 4), size / 8);
      image.write(Buffer.alloc(700), size - 900);
      image.write(Buffer.alloc(3000), size / 2 + 1000);
    });
  }
  return new Chain(links);
}

function trimming(chain: Chain, dryRun = false): Change & { readonly told: Trim[] } {
  const told: Trim[] = [];
  return {
    chain,
    told,
    writable: dryRun ? [] : [0],
    make(image) {
      const trim = new Trim(image, { dryRun });
      told.push(trim);
      for (const _ of trim.steps());
    },
  };
}

function run(change: Change): void {
  const storages = storagesOf(change.chain.links);
  const image = change.chain.open(storages, change.writable);
  change.make(image, storages);
  image.close();
}

describe('trimming', function () {
  this.timeout(60_000);

  for (const [n, one] of CASES.entries()) {
    describe(`${one.formats.join(' over ')} ${JSON.stringify(one.values ?? {})}`, () => {
      const chain = (): Chain => made(one, Random.forCase(SEED, n));

      it('gives back what reads as zeros, and nothing else', () => {
        const whole = chain();
        const storages = storagesOf(whole.links);
        const expected = whole.read(storages);
        const allocated = storages[0]?.allocated() ?? 0;
        const looked = trimming(whole, true);
        run(looked);
        expect(looked.told[0]?.found).to.be.at.least(one.size / 8);
        const change = trimming(whole);
        run(change);
        expect(change.told[0]).to.include({ found: looked.told[0]?.found, freed: looked.told[0]?.found });
        expect(whole.read(storages).equals(expected)).to.equal(true);
        expect(storages[0]?.allocated()).to.be.at.most(allocated - one.size / 8 + 16 * KIB);
        run(looked);
        expect(looked.told[1]?.found, 'found again').to.equal(0);
        expect(whole.corruptions(storages)).to.deep.equal([]);
      });

      it('shows the same disk whenever the power fails', () => {
        expect(badStates(trimming(chain()))).to.deep.equal([]);
      });

      if (n > 1) return;
      it('shows the same disk whatever fails', () => {
        expect(badFailures(trimming(chain())).bad).to.deep.equal([]);
      });
    });
  }

  it('cannot where zeros cannot be said, and says so: version 2 above another image', () => {
    const one: Case = { formats: ['qcow2', 'raw'], values: { cluster_size: 4096, compat: '0.10' }, size: 128 * KIB };
    const whole = made(one, new Random());
    const expected = whole.read(storagesOf(whole.links));
    const change = trimming(whole);
    run(change);
    expect(change.told[0]?.freed).to.equal(0);
    expect(change.told[0]?.found).to.be.greaterThan(0);
    expect(whole.read(storagesOf(whole.links)).equals(expected)).to.equal(true);
  });

  it('leaves snapshots what they have', () => {
    const whole = made({ formats: ['qcow2'], values: { cluster_size: 4096 }, size: 128 * KIB }, new Random());
    const storages = storagesOf(whole.links);
    const image = whole.open(storages, [0]);
    const { id } = image.createSnapshot(Buffer.from('before'));
    image.close();
    const disk = whole.read(storages);
    run(trimming(whole));
    const after = whole.open(storages, []);
    const past = after.openSnapshot(id);
    expect(readAll(past).equals(disk)).to.equal(true);
    past.close();
    after.close();
    expect(whole.corruptions(storages)).to.deep.equal([]);
  });

  it('reads no holes: a disk of a tebibyte at once', () => {
    const whole = new Chain([link('large.qcow2', 'qcow2', [], { size: 2 ** 40 })]);
    whole.write(0, (image) => image.write(Buffer.alloc(256 * KIB), 2 ** 39));
    const change = trimming(whole);
    const begun = performance.now();
    run(change);
    expect(change.told[0]?.freed).to.equal(256 * KIB);
    expect(performance.now() - begun).to.be.lessThan(5000);
  });
});
