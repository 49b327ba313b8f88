/** Every fault of a workload: the 1st operation fails, the 2nd, ... until a run ends before its fault comes. */
import type { Effect, Operation } from '../../src/storage/faults.js';
import { HostCopy } from '../crash/host-copy.js';
import { structureCheck } from '../crash/structure.js';
import type { Workload } from '../crash/workload.js';
import { Random } from '../support/seed.js';
import { type FaultOutcome, prepare, runFault } from './fault-run.js';

export interface SweepOptions {
  readonly seed: number;
  /** Tries one fault in so many, and fewer still of workloads that say so. */
  readonly oneIn: number;
  /** Tries every fault of those too. */
  readonly complete: boolean;
  /** qemu-img looks at one run in so many; 0 for none. */
  readonly qemuEvery: number;
  /** Only this fault: `io.once.17`. */
  readonly only?: string | undefined;
}

export interface SweepTally {
  readonly runs: number;
  readonly byQemu: number;
  readonly bad: number;
  readonly failures: readonly string[];
}

interface Kind {
  readonly effect: Effect;
  readonly persistent: boolean;
  readonly kinds: readonly Operation[];
  readonly growing?: boolean;
}

/** Reads cannot want space; a flush that fails has failed, whatever the host calls it. */
const CHANGES: readonly Operation[] = ['write', 'resize', 'discard', 'allocate'];
const ALL: readonly Operation[] = ['read', 'flush', ...CHANGES];

const KINDS: readonly Kind[] = [
  { effect: 'io', persistent: false, kinds: ALL },
  { effect: 'io', persistent: true, kinds: ALL },
  { effect: 'no-space', persistent: false, kinds: CHANGES },
  { effect: 'no-space', persistent: true, kinds: ['write', 'allocate'], growing: true },
  { effect: 'short', persistent: false, kinds: CHANGES },
  { effect: 'short', persistent: true, kinds: CHANGES },
];

const MAX_FAILURES = 3;

/** Tries all faults of one workload. */
export function sweep(workload: Workload, options: SweepOptions): SweepTally {
  const host = options.qemuEvery > 0 ? new HostCopy() : undefined;
  const prepared = prepare(workload);
  const check = structureCheck(prepared.rig);
  const step = options.oneIn * (options.complete ? 1 : (workload.oneIn ?? 1));
  const random = new Random(options.seed);
  const failures: string[] = [];
  const counts = { runs: 0, byQemu: 0, bad: 0 };
  try {
    for (const kind of KINDS) {
      for (let at = 1 + random.below(step); ; at += step) {
        const name = `${kind.effect}.${kind.persistent ? 'forever' : 'once'}.${at}`;
        const byQemu = host !== undefined && counts.runs % options.qemuEvery === 0;
        const outcome = runFault(prepared, { ...kind, at }, check, byQemu ? host : undefined);
        if (outcome.fired === 0) break;
        if (options.only !== undefined && options.only !== name) continue;
        counts.runs++;
        if (byQemu) counts.byQemu++;
        if (outcome.wrong.length > 0) counts.bad++;
        if (outcome.wrong.length > 0 && failures.length < MAX_FAILURES) failures.push(report(workload, name, outcome));
      }
    }
  } finally {
    host?.dispose();
  }
  return { ...counts, failures };
}

function report(workload: Workload, fault: string, { wrong }: FaultOutcome): string {
  return `IMGFS_FAULT_ONLY='${workload.name}@${fault}'\n    ${wrong.slice(0, 3).join('\n    ')}`;
}
