/** A thread that sweeps workloads with faults. */
import { workloadNamed } from '../crash/catalogue.js';
import { serve } from '../support/crew.js';
import { type SweepOptions, type SweepTally, sweep } from './sweep.js';

export interface Order {
  readonly workload: string;
  readonly options: SweepOptions;
}

export interface Answer {
  readonly workload: string;
  readonly tally: SweepTally;
}

/** The module, for `runCrew`. */
export const WORKER = new URL(import.meta.url);

serve<Order, Answer>(({ workload, options }) => ({ workload, tally: sweep(workloadNamed(workload), options) }));
