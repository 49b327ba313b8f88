/** What is promised of every writable format when the power goes: nothing corrupt, nothing flushed lost, nothing stray. */
import { expect } from 'chai';
import { runCrew } from '../support/crew.js';
import { imageFormats } from '../support/samples.js';
import { hasTool } from '../support/scratch.js';
import { SEED } from '../support/seed.js';
import { enumerated, ordinary } from './catalogue.js';
import { NOTHING, type RunOptions, sum, type Tally } from './runner.js';
import { summary } from './table.js';
import { type Answer, type Order, WORKER } from './worker.js';
import type { Workload } from './workload.js';

const [onlyWorkload, onlyState] = (process.env.IMGFS_CRASH_ONLY ?? '').split('@');
const QEMU_EVERY = hasTool('qemu-img') ? 10 : 0;

async function crash(workloads: readonly Workload[], more: Partial<RunOptions> = {}): Promise<Map<string, Tally>> {
  const tallies = new Map<string, Tally>(workloads.map(({ name }) => [name, NOTHING]));
  const options: RunOptions = { seed: SEED, barriers: true, qemuEvery: QEMU_EVERY, only: onlyState, ...more };
  const chosen = workloads.filter(({ name }) => !onlyWorkload || name === onlyWorkload);
  await runCrew<Order, Answer>({
    module: WORKER,
    orders: chosen.map(({ name }) => ({ workload: name, options })),
    each: ({ workload, tally }) => tallies.set(workload, tally),
  });
  return tallies;
}

/** All states are for `make crash`: a run of the tests has so many minutes, and wants so many states all the same. */
const ONE_IN = 2;
const LEAST = 10_000;

describe('power cuts', function () {
  // Minutes, on a machine with nothing else to do.
  this.timeout(3_600_000);

  it('leave every writable format whole, with all that was flushed and nothing else', async () => {
    const tallies = await crash([...ordinary(), ...enumerated(SEED, onlyWorkload ? undefined : 25)], {
      oneIn: onlyWorkload ? 1 : ONE_IN,
    });
    console.log(summary(tallies).join('\n'));
    const all = [...tallies.values()].reduce(sum, NOTHING);
    expect(all.bad, `\n${all.failures.join('\n')}\n`).to.equal(0);
    if (!onlyWorkload) expect(all.states).to.be.at.least(LEAST);
  });

  const formats = imageFormats.filter(({ can }) => can.write);
  for (const { name: format } of formats) {
    it(`are seen to do damage where barriers hold back nothing (${format})`, async () => {
      const workloads = ordinary().filter((workload) => workload.format === format);
      expect(workloads, 'workloads').not.to.deep.equal([]);
      const tallies = await crash(workloads, { barriers: false, qemuEvery: 0, oneIn: 7 });
      const { bad, states } = [...tallies.values()].reduce(sum, NOTHING);
      console.log(`      ${format} without barriers: ${bad} of ${states} states are bad`);
      expect(bad / states).to.be.at.least(0.2);
    });
  }
});
