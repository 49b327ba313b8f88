import { expect } from 'chai';
import { type CopyOptions, copyDisk, type WrittenDisk } from '../../src/convert/copy.js';
import { JoinedDisk } from '../../src/convert/joined.js';
import { zeroRuns } from '../../src/convert/zeros.js';
import { MemoryStorage } from '../../src/storage/memory.js';
import { Random, SEED } from '../support/seed.js';
import { contentOf, data, hole, MadeDisk, type Run } from './made-disk.js';
import { Taken } from './taken.js';

const MIB = 2 ** 20;
const TIB = 2 ** 40;
const BLOCK = 2 * MIB;

const PLAIN: CopyOptions = {
  targetIsZero: true,
  topLayer: false,
  sparse: 4096,
  byHost: false,
  pack: false,
  outOfOrder: false,
};

function copy(source: MadeDisk | JoinedDisk, target: WrittenDisk, options: Partial<CopyOptions> = {}): number[] {
  return [...copyDisk(source, target, { ...PLAIN, ...options })];
}

describe('copying disks', () => {
  it('neither reads nor writes holes: 5 TiB at once', () => {
    const source = new MadeDisk([hole(5 * TIB)]);
    const target = new Taken(5 * TIB, 0);
    expect(copy(source, target)).to.deep.equal([5 * TIB]);
    expect([source.reads, target.written, target.cleared]).to.deep.equal([[], [], []]);
    copy(source, target, { targetIsZero: false });
    expect([source.reads, target.written, target.cleared]).to.deep.equal([[], [], [[0, 5 * TIB]]]);
  });

  it('reads in large pieces, aligned, across extents of any length', () => {
    const source = new MadeDisk([hole(1000), ...Array.from({ length: 80 }, () => data(65_536, 3))]);
    copy(source, new Taken(source.size, 0));
    expect(source.reads).to.deep.equal([
      [1000, BLOCK - 1000],
      [BLOCK, BLOCK],
      [2 * BLOCK, source.size - 2 * BLOCK],
    ]);
  });

  it('makes holes of zeros that were stored, in whole units of the target', () => {
    const source = new MadeDisk([data(8192, 1), data(4096, 0), data(4096, 1), data(65_536, 0)]);
    const fresh = new Taken(source.size, 0);
    copy(source, fresh);
    expect(fresh.written).to.deep.equal([
      [0, 8192],
      [12_288, 16_384],
    ]);
    const used = new Taken(source.size, 9, 16_384);
    copy(source, used, { targetIsZero: false });
    expect([used.written, used.cleared]).to.deep.equal([[[0, 16_384]], [[16_384, 81_920]]]);
  });

  it('writes everything where no holes are wanted', () => {
    const source = new MadeDisk([hole(MIB), data(4096, 1), data(8192, 0)]);
    const target = new Taken(source.size, 0);
    copy(source, target, { sparse: 0 });
    expect(target.written).to.deep.equal([[0, source.size]]);
  });

  describe('by the host', () => {
    const storage = new MemoryStorage('host');
    const placed = (length: number, offset: number): Run => ({ ...data(length, 1), storage, offset });

    it('in pieces as they lie, whatever the extents; the rest is read', () => {
      const runs = [placed(MIB, 5000), placed(MIB, 5000 + MIB), placed(4096, 0), hole(4096), data(4096, 1)];
      const source = new MadeDisk(runs);
      const target = new Taken(source.size, 0);
      target.hostCopies = (_, length) => length;
      copy(source, target, { byHost: true });
      expect(target.copied).to.deep.equal([
        [5000, 0, 2 * MIB],
        [0, 2 * MIB, 4096],
      ]);
      expect(source.reads).to.deep.equal([[2 * MIB + 8192, 4096]]);
    });

    it('goes on where it stopped, and reads what it does not copy', () => {
      const source = new MadeDisk([placed(3 * MIB, 0)]);
      const target = new Taken(source.size, 0);
      target.hostCopies = (at, length) => (at < MIB ? Math.min(length, MIB / 4) : 0);
      copy(source, target, { byHost: true });
      expect(target.copied.map(([, at]) => at)).to.deep.equal([0, 1, 2, 3].map((n) => (n * MIB) / 4));
      expect(source.reads).to.deep.equal([
        [MIB, MIB],
        [2 * MIB, MIB],
      ]);
    });

    it('never unless asked', () => {
      const source = new MadeDisk([placed(3 * MIB, 0)]);
      const target = new Taken(source.size, 0);
      target.hostCopies = (_, length) => length;
      copy(source, target);
      expect([target.copied, source.reads.length]).to.deep.equal([[], 2]);
    });
  });

  it('stops where nobody asks for more', () => {
    const source = new MadeDisk([data(10 * BLOCK, 1)]);
    const target = new Taken(source.size, 0);
    for (const done of copyDisk(source, target, PLAIN)) if (done >= 2 * BLOCK) break;
    expect(target.written).to.deep.equal([
      [0, BLOCK],
      [BLOCK, 2 * BLOCK],
    ]);
  });

  it('copies disks made at random, one or several, each byte once and in order', () => {
    for (let n = 0; n < 100; n++) {
      const random = Random.forCase(SEED, n);
      const disk = (): MadeDisk => new MadeDisk(Array.from({ length: 1 + random.below(6) }, () => randomRun(random)));
      const disks = Array.from({ length: 1 + random.below(3) }, disk);
      const joined = new JoinedDisk(disks);
      const targetIsZero = random.below(2) === 0;
      const target = new Taken(joined.size, targetIsZero ? 0 : 9, 512 << random.below(8));
      const steps = copy(joined, target, { targetIsZero, sparse: 512 * random.below(20) });
      const padded = disks.map((one) => Buffer.concat([contentOf(one), Buffer.alloc(-one.size & 511)]));
      const context = `case ${n} of seed ${SEED}`;
      expect(target.bytes.equals(Buffer.concat(padded)), context).to.equal(true);
      expect(steps.at(-1), context).to.equal(joined.size);
      const done = [...target.written, ...target.cleared].sort(([a], [b]) => a - b);
      expect(
        done.every(([from], index) => from >= (done[index - 1]?.[1] ?? 0)),
        context,
      ).to.equal(true);
    }
  });

  it('finds runs of zeros as a look at each unit finds them', () => {
    for (let n = 0; n < 200; n++) {
      const random = Random.forCase(SEED, n);
      const unit = 512 * (1 + random.below(4));
      const at = 512 * random.below(10);
      const bytes = Buffer.alloc(random.below(20_000));
      for (let k = random.below(8); k > 0 && bytes.length > 0; k--) bytes[random.below(bytes.length)] = 1;
      const runs = [...zeroRuns(bytes, at, unit)];
      let end = 0;
      for (const [index, run] of runs.entries()) {
        expect(run.from).to.equal(end);
        if (index > 0) expect(run.zero).to.equal(runs[index - 1]?.zero !== true);
        end = run.to;
        for (let here = run.from; here < run.to; ) {
          const next = Math.min(run.to, here + unit - ((at + here) % unit));
          expect(bytes.subarray(here, next).every((byte) => byte === 0)).to.equal(run.zero);
          here = next;
        }
      }
      expect(end).to.equal(bytes.length);
    }
  });
});

function randomRun(random: Random): Run {
  const length = 1 + random.below(random.below(4) === 0 ? BLOCK : 20_000);
  return random.below(2) === 0 ? hole(length) : data(length, random.below(3));
}
