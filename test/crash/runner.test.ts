/** The crash runner itself: it must see every mistake, say which kind it is, and find nothing where there is none. */
import { expect } from 'chai';
import { SEED } from '../support/seed.js';
import type { Operation } from './operations.js';
import { type RunOptions, runWorkload, type Tally } from './runner.js';
import { checkToy, emptyToy, type Mistake, toy } from './toy.js';
import type { Workload } from './workload.js';

const OPERATIONS: readonly Operation[] = [
  { do: 'write', at: 0, length: 512 },
  { do: 'write', at: 10_000, length: 5000 },
  { do: 'flush' },
  { do: 'write', at: 512, length: 1536 },
  { do: 'zero', at: 11_000, length: 700 },
  { do: 'write', at: 30_000, length: 3 },
  { do: 'flush' },
  { do: 'write', at: 0, length: 2048 },
  { do: 'write', at: 50_001, length: 2222 },
  { do: 'reopen' },
  { do: 'write', at: 40_000, length: 4096 },
];

function crash(mistakes: readonly Mistake[], more: Partial<RunOptions> = {}): Tally {
  const workload: Workload = {
    name: `toy ${mistakes.join()}`,
    format: toy(...mistakes),
    files: [{ name: 'disk.toy', role: 'image', bytes: emptyToy }],
    operations: OPERATIONS,
  };
  return runWorkload(workload, { seed: SEED, barriers: true, qemuEvery: 0, check: checkToy, ...more });
}

describe('crash runner', () => {
  it('finds nothing wrong with a format that makes no mistake', () => {
    const tally = crash([]);
    expect(tally.failures).to.deep.equal([]);
    expect(tally.states).to.be.greaterThan(100);
    expect(tally.bad).to.equal(0);
  });

  const seen: readonly (readonly [Mistake, 'corrupt' | 'lost' | 'stray'])[] = [
    ['no barrier', 'corrupt'],
    ['counter after table', 'corrupt'],
    ['neighbours written late', 'stray'],
    ['flush does nothing', 'lost'],
    ['stray write', 'stray'],
    ['publishes before it writes', 'corrupt'],
  ];
  for (const [mistake, fault] of seen) {
    it(`sees "${mistake}" as ${fault}`, () => {
      const tally = crash([mistake]);
      expect(tally[fault], tally.failures.join('\n')).to.be.greaterThan(0);
      expect(tally.failures[0]).to.include(`IMGFS_SEED=${SEED} IMGFS_CRASH_ONLY='toy ${mistake}@`);
    });
  }

  it('calls at least a fifth of the states bad where barriers hold back nothing', () => {
    const { bad, states } = crash([], { barriers: false });
    expect(bad / states).to.be.greaterThan(0.2);
  });

  it('repeats one state alone', () => {
    const [first = ''] = crash(['no barrier']).failures;
    const only = /@([^']+)'/.exec(first)?.[1];
    const again = crash(['no barrier'], { only });
    expect(again.states).to.equal(1);
    expect(again.failures).to.deep.equal([first]);
  });

  it('goes through the same states with the same seed', () => {
    expect(crash(['no barrier'])).to.deep.equal(crash(['no barrier']));
  });
});
