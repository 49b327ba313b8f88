import { expect } from 'chai';
import { type ChangedRange, diffDisks, type Held } from '../../src/convert/diff.js';
import type { ComparedDisk } from '../../src/convert/side.js';
import { MemoryStorage } from '../../src/storage/memory.js';
import { Random, SEED } from '../support/seed.js';
import { contentOf, data, hole, MadeDisk, type Run } from './made-disk.js';

const SECTOR = 512;
const MIB = 2 ** 20;
const TIB = 2 ** 40;

function diff(a: ComparedDisk, b: ComparedDisk): ChangedRange[] {
  const found: ChangedRange[] = [];
  for (const _ of diffDisks(a, b, (range) => found.push(range)));
  return found;
}

/** Sector by sector, of all bytes. */
function expectedOf(a: Buffer, b: Buffer): ChangedRange[] {
  const end = Math.max(a.length, b.length);
  const [left, right] = [a, b].map((bytes) => Buffer.concat([bytes, Buffer.alloc(end - bytes.length)])) as [
    Buffer,
    Buffer,
  ];
  const found: ChangedRange[] = [];
  const held = (bytes: Buffer): Held => (bytes.equals(Buffer.alloc(bytes.length)) ? 'zero' : 'data');
  for (let start = 0; start < end; start += SECTOR) {
    const [mine, theirs] = [left.subarray(start, start + SECTOR), right.subarray(start, start + SECTOR)];
    if (mine.equals(theirs)) continue;
    const range = { start, length: mine.length, first: held(mine), second: held(theirs) };
    const last = found.at(-1);
    const joins =
      last !== undefined &&
      last.start + last.length === start &&
      last.first === range.first &&
      last.second === range.second;
    if (joins) found[found.length - 1] = { ...last, length: last.length + range.length };
    else found.push(range);
  }
  return found;
}

/** Stored at a place of a file. */
const stored = (length: number, byte: number, storage: MemoryStorage, offset: number): Run => ({
  ...data(length, byte),
  storage,
  offset,
});

describe('the difference of disks', () => {
  it('is found sector by sector, in disks made at random', () => {
    for (let n = 0; n < 60; n++) {
      const random = Random.forCase(SEED, n);
      const runs = Array.from({ length: 1 + random.below(8) }, () => {
        const length = SECTOR * (1 + random.below(random.below(4) === 0 ? 8192 : 20));
        return random.below(2) === 0 ? hole(length) : data(length, random.below(3));
      });
      const changed = runs.map((run) =>
        random.below(3) === 0 ? { ...run, ...data(run.length, random.below(3)) } : run,
      );
      if (random.below(3) === 0) changed.push(random.below(2) === 0 ? hole(3000) : data(1000, 1));
      const [a, b] = [new MadeDisk(runs), new MadeDisk(changed)];
      const expected = expectedOf(contentOf(a), contentOf(b));
      expect(diff(a, b), `case ${n} of seed ${SEED}`).to.deep.equal(expected);
    }
  });

  it('reads neither zeros nor what lies at one place of one file', () => {
    const [file, other] = [new MemoryStorage('one'), new MemoryStorage('two')];
    const a = new MadeDisk([hole(5 * TIB), stored(64 * MIB, 1, file, 0), stored(4096, 2, file, 64 * MIB)]);
    const b = new MadeDisk([hole(5 * TIB), stored(64 * MIB, 1, file, 0), stored(4096, 3, other, 64 * MIB)]);
    const range = { start: 5 * TIB + 64 * MIB, length: 4096, first: 'data', second: 'data' };
    expect(diff(a, b)).to.deep.equal([range]);
    expect(a.reads).to.deep.equal([[range.start, 4096]]);
    expect(b.reads).to.deep.equal([[range.start, 4096]]);
  });

  it('does not take one place for the other', () => {
    const file = new MemoryStorage('one');
    const a = new MadeDisk([stored(4096, 1, file, 0)]);
    expect(diff(a, new MadeDisk([stored(4096, 2, file, 4096)]))).to.have.length(1);
    expect(diff(a, new MadeDisk([stored(4096, 2, new MemoryStorage('one'), 0)]))).to.have.length(1);
  });
});
