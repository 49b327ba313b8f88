/** A thread that examines the crash states of workloads. */
import { serve } from '../support/crew.js';
import { workloadNamed } from './catalogue.js';
import { type RunOptions, runWorkload, type Tally } from './runner.js';

export interface Order {
  readonly workload: string;
  readonly options: RunOptions;
}

export interface Answer {
  readonly workload: string;
  readonly tally: Tally;
}

/** The module, for `runCrew`. */
export const WORKER = new URL(import.meta.url);

serve<Order, Answer>(({ workload, options }) => ({ workload, tally: runWorkload(workloadNamed(workload), options) }));
