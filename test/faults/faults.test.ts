/** Every storage operation of a workload fails once and for ever: no corruption, no silent success, right reasons. */
import { expect } from 'chai';
import { ordinary } from '../crash/catalogue.js';
import { checkToy, emptyToy, type Mistake, toy } from '../crash/toy.js';
import { runCrew } from '../support/crew.js';
import { hasTool } from '../support/scratch.js';
import { SEED } from '../support/seed.js';
import { prepare, runFault } from './fault-run.js';
import type { SweepOptions, SweepTally } from './sweep.js';
import { type Answer, type Order, WORKER } from './worker.js';

const [onlyWorkload = '', only] = (process.env.IMGFS_FAULT_ONLY ?? '').split('@');
/** One fault in so many of each kind is tried. */
const ONE_IN = Number(process.env.IMGFS_FAULT_ONE_IN ?? 1);
/** `make test` tries fewer of the long workloads, `make crash` all. */
const COMPLETE = process.env.IMGFS_FAULT_COMPLETE !== undefined;

describe('faults of the host', function () {
  // Minutes, on a machine with nothing else to do; all of them take longer.
  this.timeout(COMPLETE ? 0 : 3_600_000);

  it('corrupt nothing, are never swallowed, and end when their cause does', async () => {
    const options: SweepOptions = {
      seed: SEED,
      oneIn: only === undefined ? ONE_IN : 1,
      complete: COMPLETE || only !== undefined,
      qemuEvery: hasTool('qemu-img') ? 50 : 0,
      only,
    };
    const names = ordinary().map(({ name }) => name);
    const orders = names.filter((name) => onlyWorkload === '' || name === onlyWorkload);
    const tallies: (readonly [string, SweepTally])[] = [];
    await runCrew<Order, Answer>({
      module: WORKER,
      orders: orders.map((workload) => ({ workload, options })),
      each: ({ workload, tally }) => tallies.push([workload, tally]),
    });
    for (const [name, { runs, byQemu, bad }] of tallies) {
      console.log(name.padEnd(44) + [runs, byQemu, bad].map((n) => String(n).padStart(10)).join(''));
    }
    const failures = tallies.flatMap(([, tally]) => tally.failures);
    expect(failures.slice(0, 12), `IMGFS_SEED=${SEED}\n${failures.slice(0, 12).join('\n')}\n`).to.deep.equal([]);
  });
});

describe('fault runner', () => {
  const wrong = (mistakes: readonly Mistake[]): readonly string[] => {
    const workload = prepare({
      name: 'toy',
      format: toy(...mistakes),
      files: [{ name: 'disk.toy', role: 'image', bytes: emptyToy }],
      operations: [
        { do: 'write', at: 0, length: 3000 },
        { do: 'flush' },
        { do: 'write', at: 2048, length: 4096 },
        { do: 'flush' },
        { do: 'write', at: 512, length: 512 },
      ],
    });
    const all: string[] = [];
    for (const persistent of [false, true]) {
      for (let at = 1; ; at++) {
        const outcome = runFault(workload, { at, persistent, effect: 'io' }, checkToy);
        if (outcome.fired === 0) break;
        all.push(...outcome.wrong);
      }
    }
    return all;
  };

  it('finds nothing wrong with a format that makes no mistake', () => {
    expect(wrong([])).to.deep.equal([]);
  });

  it('sees writes that are said to have succeeded', () => {
    expect(wrong(['swallows errors']).join('\n')).to.include('after reopening');
  });

  it('sees tables that point at what could not be written', () => {
    expect(wrong(['publishes before it writes']).join('\n')).to.match(/not counted|after/);
  });
});
