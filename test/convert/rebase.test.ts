import { expect } from 'chai';
import { type Rebase, rebaseDisk } from '../../src/convert/rebase.js';
import type { Image, NamedFile } from '../../src/image/image.js';
import { Random, SEED } from '../support/seed.js';
import {
  badFailures,
  badStates,
  Chain,
  type Change,
  chainOf,
  type Link,
  link,
  type Recipe,
  storagesOf,
} from './chain.js';

const KIB = 1024;
const SMALL = { cluster_size: 4096 };

interface Case extends Recipe {
  /** What shall lie below: a new image of that format and size, or one of the chain by its number, or nothing. */
  readonly next: { readonly format: string; readonly size: number } | number | undefined;
  /** Its name is made so long. */
  readonly nameBytes?: number;
}

const CASES: Readonly<Record<string, Case>> = {
  'qcow2 onto another qcow2': { formats: ['qcow2', 'qcow2'], values: SMALL, next: { format: 'qcow2', size: 64 * KIB } },
  'qcow2 onto a longer raw': { formats: ['qcow2', 'qcow2'], values: SMALL, next: { format: 'raw', size: 90 * KIB } },
  'longer than what lies below, onto what is longer than both': {
    formats: ['qcow2', 'qcow2'],
    sizes: [80 * KIB, 40 * KIB],
    values: SMALL,
    next: { format: 'raw', size: 96 * KIB },
  },
  'onto a shorter one': {
    formats: ['qcow2', 'raw'],
    sizes: [80 * KIB, 70 * KIB],
    values: SMALL,
    next: { format: 'qcow2', size: 20 * KIB },
  },
  'version 2, which cannot say zeros': {
    formats: ['qcow2', 'raw'],
    values: { ...SMALL, compat: '0.10' },
    next: { format: 'raw', size: 64 * KIB },
  },
  'onto what it lies above already, past a shorter one': {
    formats: ['qcow2', 'qcow2', 'qcow2'],
    sizes: [80 * KIB, 40 * KIB, 64 * KIB],
    values: SMALL,
    next: 2,
  },
  'onto nothing': { formats: ['qcow2', 'qcow2', 'raw'], values: SMALL, next: undefined },
  'a name that does not fit beside the old one in its sector': {
    formats: ['qcow2', 'qcow2'],
    values: SMALL,
    next: { format: 'raw', size: 64 * KIB },
    nameBytes: 900,
  },
  'qcow onto raw': { formats: ['qcow', 'qcow'], next: { format: 'raw', size: 64 * KIB } },
  'qcow onto nothing': { formats: ['qcow', 'raw'], sizes: [64 * KIB, 50_000], next: undefined },
};

/** Of these every operation is made to fail. */
const SWEPT: ReadonlySet<string> = new Set(['qcow2 onto another qcow2', 'qcow onto raw']);

function made({ next, nameBytes, ...recipe }: Case, random: Random): { chain: Chain; next: Link | undefined } {
  const { links } = chainOf(recipe, random);
  if (typeof next === 'number') return { chain: new Chain(links), next: links[next] };
  if (next === undefined) return { chain: new Chain(links), next: undefined };
  const other = link('x'.repeat(nameBytes ?? 8), next.format, [], { size: next.size });
  new Chain([other]).write(0, (image) => {
    image.write(random.bytes(12 * KIB), 6 * KIB);
    image.write(random.bytes(700), image.size - 1000);
  });
  return { chain: new Chain([...links, other]), next: other };
}

function changeTo({ chain, next }: ReturnType<typeof made>, format: string, depth: number): Change {
  return {
    chain,
    writable: [0],
    make(top, storages) {
      const below = next && chain.open(storages, [], chain.links.indexOf(next));
      const named: NamedFile | undefined = next && {
        name: next.name,
        ...(format === 'qcow' ? {} : { format: next.format }),
      };
      const rebase: Rebase = { top, next: below, named, shared: depth };
      for (const _ of rebaseDisk(rebase));
      below?.close();
    },
  };
}

describe('rebasing', function () {
  this.timeout(120_000);

  for (const [n, [title, one]] of Object.entries(CASES).entries()) {
    const change = (): Change => {
      const depth = typeof one.next === 'number' ? one.next : Number.POSITIVE_INFINITY;
      return changeTo(made(one, Random.forCase(SEED, n)), one.formats[0] ?? '', depth);
    };

    describe(title, () => {
      it('leaves the disk, above the other one', () => {
        const { chain, make, writable } = change();
        const expected = chain.read(storagesOf(chain.links));
        const image = chain.open(storagesOf(chain.links), writable);
        make(image, storagesOf(chain.links));
        image.close();
        expect(chain.read(storagesOf(chain.links)).equals(expected)).to.equal(true);
        const again = chain.open(storagesOf(chain.links), []);
        const name =
          typeof one.next === 'number' ? chain.links[one.next]?.name : one.next && 'x'.repeat(one.nameBytes ?? 8);
        expect(again.info.backing?.name).to.equal(name);
        again.close();
        expect(chain.corruptions(storagesOf(chain.links))).to.deep.equal([]);
      });

      it('shows the same disk whenever the power fails', () => {
        expect(badStates(change())).to.deep.equal([]);
      });

      if (!SWEPT.has(title)) return;
      it('shows the same disk whatever fails, and can be done again', () => {
        const { bad, failed } = badFailures(change());
        expect(bad).to.deep.equal([]);
        expect(failed).to.be.greaterThan(10);
      });
    });
  }

  it('copies nothing that lies below both', () => {
    // In one image all may lie above both by chance.
    const totals = [0, 0];
    for (let n = 0; n < 8; n++) {
      const one = made({ formats: ['qcow2', 'qcow2', 'qcow2'], values: SMALL, next: 2 }, Random.forCase(SEED, n));
      const [known, unknown] = [2, Number.POSITIVE_INFINITY].map((depth) => readsOf(one, depth));
      expect(known?.disk.equals(unknown?.disk ?? Buffer.alloc(0))).to.equal(true);
      expect(known?.reads).to.be.at.most(unknown?.reads ?? 0);
      totals[0]! += known?.reads ?? 0;
      totals[1]! += unknown?.reads ?? 0;
    }
    expect(totals[0]).to.be.lessThan(totals[1]!);
  });

  it('would lose data if nothing held writes back: the states are bad ones then', () => {
    const one = made({ formats: ['qcow2', 'qcow2'], values: SMALL, next: undefined }, new Random());
    expect(badStates(changeTo(one, 'qcow2', Number.POSITIVE_INFINITY), { barriers: false })).to.not.deep.equal([]);
  });
});

/** How often a rebase reads, which is told that the chains are the same from `depth` on, and the disk it leaves. */
function readsOf(one: ReturnType<typeof made>, depth: number): { readonly reads: number; readonly disk: Buffer } {
  const { chain } = one;
  const files = storagesOf(chain.links).map((storage) => storage.copy());
  const image = chain.open(files, [0]);
  let reads = 0;
  const counted: Image = new Proxy(image, {
    get(target, key) {
      if (key === 'read') reads++;
      const value = Reflect.get(target, key) as unknown;
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });
  changeTo(one, 'qcow2', depth).make(counted, files);
  image.close();
  return { reads, disk: chain.read(files) };
}
