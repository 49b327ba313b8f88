import { expect } from 'chai';
import { compareDisks, type Difference } from '../../src/convert/compare.js';
import { type ComparedDisk, SECTOR } from '../../src/convert/side.js';
import { drained } from '../../src/lib/steps.js';
import { Random, SEED } from '../support/seed.js';
import { contentOf, data, hole, MadeDisk } from './made-disk.js';

const TIB = 2 ** 40;
const BLOCK = 2 * 2 ** 20;

function compare(a: ComparedDisk, b: ComparedDisk, strict = false): Difference | undefined {
  return drained(compareDisks(a, b, { strict }));
}

describe('comparing disks', () => {
  it('reads nothing that both know to be zeros: 5 TiB at once', () => {
    const a = new MadeDisk([hole(TIB), data(4096, 7), hole(4 * TIB)]);
    const b = new MadeDisk([hole(TIB - 512), data(4608, 0), hole(4 * TIB)]);
    const c = new MadeDisk([hole(TIB), data(4096, 7), hole(TIB)]);
    expect(compare(a, b)).to.deep.equal({ kind: 'content', offset: TIB });
    expect(compare(a, c)).to.equal(undefined);
    expect(compare(new MadeDisk([hole(5 * TIB)]), new MadeDisk([hole(TIB)]))).to.equal(undefined);
    expect(a.reads).to.deep.equal([
      [TIB - 512, 512],
      [TIB, 4096],
      [TIB, 4096],
    ]);
    expect(c.reads).to.deep.equal([[TIB, 4096]]);
  });

  it('reads in large pieces, aligned, across extents of any length', () => {
    const pieces = Array.from({ length: 100 }, () => data(65_536, 3));
    const a = new MadeDisk([hole(1000), ...pieces]);
    const b = new MadeDisk([hole(1000), data(6_553_600, 3)]);
    expect(compare(a, b)).to.equal(undefined);
    const end = 6_554_600;
    const expected = [
      [1000, BLOCK - 1000],
      [BLOCK, BLOCK],
      [2 * BLOCK, BLOCK],
      [3 * BLOCK, end - 3 * BLOCK],
    ];
    expect(a.reads).to.deep.equal(expected);
    expect(b.reads).to.deep.equal(expected);
  });

  it('tells how far it is, up to the end of the longer one', () => {
    const parts: number[] = [];
    const [a, b] = [new MadeDisk([data(4 * BLOCK, 1)]), new MadeDisk([data(4 * BLOCK, 1), hole(4 * BLOCK)])];
    parts.push(...compareDisks(a, b, { strict: false }));
    expect(parts).to.deep.equal([1, 2, 3, 4, 8].map((blocks) => blocks * BLOCK));
  });

  it('strictly: sizes first, then whatever comes first in the disk', () => {
    const a = new MadeDisk([data(1024, 1), hole(1024)]);
    expect(compare(a, new MadeDisk([data(1024, 1), hole(1025)]), true)).to.deep.equal({ kind: 'size' });
    const stored = new MadeDisk([data(1024, 1), data(1024, 0)]);
    expect(compare(a, stored, true)).to.deep.equal({ kind: 'status', offset: 1024 });
    expect(compare(a, stored)).to.equal(undefined);
    const other = new MadeDisk([data(512, 1), data(512, 2), data(1024, 0)]);
    expect(compare(a, other, true)).to.deep.equal({ kind: 'content', offset: 512 });
    expect(compare(a, new MadeDisk([data(1024, 1), hole(24), hole(1000)]), true)).to.equal(undefined);
  });

  it('finds the first difference of disks made at random, of any sizes', () => {
    for (let n = 0; n < 100; n++) {
      const random = Random.forCase(SEED, n);
      const runs = Array.from({ length: 1 + random.below(6) }, () => {
        const length = 1 + random.below(random.below(4) === 0 ? 2 * BLOCK : 3000);
        return random.below(2) === 0 ? hole(length) : data(length, random.below(2));
      });
      const changed = [...runs];
      const kind = random.below(3);
      if (kind === 0) changed.splice(random.below(runs.length), 1, data(1 + random.below(5000), random.below(2)));
      if (kind === 1) changed.push(random.below(2) === 0 ? hole(1 + random.below(3000)) : data(100, random.below(2)));
      const [a, b] = [new MadeDisk(runs), new MadeDisk(changed)];
      const [left, right] = [contentOf(a), contentOf(b)];
      const end = Math.max(left.length, right.length);
      const padded = [left, right].map((bytes) => Buffer.concat([bytes, Buffer.alloc(end - bytes.length)]));
      const at = firstDifference(padded[0] as Buffer, padded[1] as Buffer);
      const expected = at === undefined ? undefined : { kind: 'content', offset: at - (at % SECTOR) };
      expect(compare(a, b), `case ${n} of seed ${SEED}`).to.deep.equal(expected);
    }
  });
});

function firstDifference(a: Buffer, b: Buffer): number | undefined {
  if (a.equals(b)) return undefined;
  let [low, high] = [0, a.length];
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (a.compare(b, low, middle, low, middle) === 0) low = middle;
    else high = middle;
  }
  return low;
}
