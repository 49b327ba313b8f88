/** A thread that runs workloads, one at a time, as it is told. */
import { parentPort } from 'node:worker_threads';
import { workloadNamed } from './catalogue.js';
import { type RunOptions, runWorkload, type Tally } from './runner.js';

export interface Order {
  readonly workload: string;
  readonly options: RunOptions;
}

export interface Answer {
  readonly workload: string;
  readonly tally: Tally;
  readonly seconds: number;
}

parentPort?.on('message', ({ workload, options }: Order) => {
  const started = performance.now();
  const tally = runWorkload(workloadNamed(workload), options);
  const answer: Answer = { workload, tally, seconds: (performance.now() - started) / 1000 };
  parentPort?.postMessage(answer);
});
