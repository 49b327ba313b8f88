/**
 * The long crash run: hand-written workloads, then every short one, until enough distinct states were examined.
 * IMGFS_CRASH_STATES and IMGFS_CRASH_SECONDS say how many and how long at most; IMGFS_CRASH_ONLY repeats one state.
 */
import { runCrew } from '../support/crew.js';
import { hasTool } from '../support/scratch.js';
import { SEED } from '../support/seed.js';
import { enumerated, ordinary, workloadNamed } from './catalogue.js';
import { NOTHING, type RunOptions, sum, type Tally } from './runner.js';
import { summary } from './table.js';
import { type Answer, type Order, WORKER } from './worker.js';

const wanted = Number(process.env.IMGFS_CRASH_STATES ?? 100_000);
const seconds = Number(process.env.IMGFS_CRASH_SECONDS ?? Number.POSITIVE_INFINITY);
const [onlyWorkload = '', only] = (process.env.IMGFS_CRASH_ONLY ?? '').split('@');

const options: RunOptions = { seed: SEED, barriers: true, qemuEvery: hasTool('qemu-img') ? 10 : 0, only };
const thorough: RunOptions = { ...options, exhaustive: 10, subsets: 256 };

const orders =
  onlyWorkload === ''
    ? [
        ...ordinary().map(({ name }) => ({ workload: name, options: thorough })),
        ...enumerated(SEED).map(({ name }) => ({ workload: name, options: thorough })),
      ]
    : [{ workload: workloadNamed(onlyWorkload).name, options: only === undefined ? options : thorough }];

const tallies = new Map<string, Tally>();
let all = NOTHING;
const started = performance.now();
const elapsed = (): number => (performance.now() - started) / 1000;

await runCrew<Order, Answer>({
  module: WORKER,
  orders,
  each: ({ workload, tally }) => {
    tallies.set(workload, tally);
    all = sum(all, tally);
    for (const failure of tally.failures) console.log(failure);
  },
  enough: () => all.states >= wanted || elapsed() >= seconds,
});

console.log(summary(tallies).join('\n'));
console.log(`${all.states} states, ${all.bad} bad, in ${elapsed().toFixed(0)} s`);
process.exitCode = all.bad > 0 || all.states === 0 ? 1 : 0;
