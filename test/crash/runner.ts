/** Runs workloads and examines every state that a power cut may leave of them. */
import { Random } from '../support/seed.js';
import { type Examiner, examine, type Fault, type Finding } from './examine.js';
import { HostCopy } from './host-copy.js';
import { CrashStates } from './states.js';
import { type StructureCheck, structureCheck } from './structure.js';
import { type Recording, record, type Workload } from './workload.js';

export interface RunOptions {
  readonly seed: number;
  /** False: flushes are acknowledged but hold back nothing. */
  readonly barriers: boolean;
  /** qemu-img looks at one state in so many; 0 for none. */
  readonly qemuEvery: number;
  /** Only this state: its id. */
  readonly only?: string | undefined;
  /** See StateOptions. */
  readonly exhaustive?: number;
  readonly subsets?: number;
  /** Looks at one state in so many; at all by default. */
  readonly oneIn?: number;
  /** The structure check, where the format's own is not meant. */
  readonly check?: StructureCheck;
}

/** Numbers of one or many workloads. `corrupt`, `lost` and `stray` count states. */
export interface Tally {
  readonly states: number;
  readonly byQemu: number;
  readonly bad: number;
  readonly corrupt: number;
  readonly lost: number;
  readonly stray: number;
  /** Most bytes leaked by any state, and after the clean close. */
  readonly leaked: number;
  readonly leakedAtEnd: number;
  /** The first few bad states, ready to be seen again. */
  readonly failures: readonly string[];
}

export const NOTHING: Tally = {
  states: 0,
  byQemu: 0,
  bad: 0,
  corrupt: 0,
  lost: 0,
  stray: 0,
  leaked: 0,
  leakedAtEnd: 0,
  failures: [],
};

const MAX_FAILURES = 5;

/** Both together. */
export function sum(a: Tally, b: Tally): Tally {
  return {
    states: a.states + b.states,
    byQemu: a.byQemu + b.byQemu,
    bad: a.bad + b.bad,
    corrupt: a.corrupt + b.corrupt,
    lost: a.lost + b.lost,
    stray: a.stray + b.stray,
    leaked: Math.max(a.leaked, b.leaked),
    leakedAtEnd: Math.max(a.leakedAtEnd, b.leakedAtEnd),
    failures: [...a.failures, ...b.failures].slice(0, MAX_FAILURES),
  };
}

/** Runs one workload and examines its states. A workload that cannot even be run is a failure of its own. */
export function runWorkload(workload: Workload, options: RunOptions): Tally {
  let recording: Recording;
  try {
    recording = record(workload);
  } catch (error) {
    const why = error instanceof Error ? (error.stack ?? error.message) : String(error);
    return { ...NOTHING, states: 1, bad: 1, corrupt: 1, failures: [why] };
  }
  const { rig } = recording;
  const host = options.qemuEvery > 0 && rig.qemu !== 'nothing' ? new HostCopy() : undefined;
  try {
    const check = options.check ?? structureCheck(rig);
    const examiner: Examiner = { rig, timeline: recording.timeline, check, host };
    const states = examineAll(workload, recording, examiner, options);
    return options.only === undefined ? sum(atEnd(recording, examiner, workload), states) : states;
  } finally {
    host?.dispose();
  }
}

/** Goes through the distinct states. The same bytes are looked at again where the moment allows other worlds. */
function examineAll(workload: Workload, recording: Recording, examiner: Examiner, options: RunOptions): Tally {
  const { entries, before, timeline } = recording;
  const random = new Random(options.seed);
  const seen = new Set<string>();
  let tally = NOTHING;
  let left = 0;
  for (const state of new CrashStates(entries, before, { ...options, random }).all()) {
    if (options.only !== undefined ? options.only !== state.id : left-- > 0) continue;
    left = (options.oneIn ?? 1) * (workload.oneIn ?? 1) - 1;
    const files = state.files();
    const key = [timeline.phase(state.at), ...files.map((file) => file.fingerprint())].join(' ');
    if (seen.has(key)) continue;
    seen.add(key);
    const sampled = examiner.host !== undefined && tally.states % options.qemuEvery === 0;
    const byQemu = sampled ? (tally.byQemu % 4 === 0 ? 'twice' : 'once') : 'not';
    const examined = examine(examiner, files, timeline.at(state.at), byQemu);
    const { leakedBytes } = examined;
    const findings = [...examined.findings, ...tooManyLeaks(recording, state.at, leakedBytes)];
    tally = sum(tally, {
      ...NOTHING,
      ...counted(findings),
      states: 1,
      byQemu: sampled ? 1 : 0,
      leaked: leakedBytes,
      failures: findings.length === 0 ? [] : [report(workload, options, state.id, findings)],
    });
  }
  return tally;
}

/**
 * A crash may leak what was reserved ahead, what was touched since the last flush, and some tables. How much a format
 * may reserve: a quarter of the disk, or four of its units.
 */
function tooManyLeaks({ timeline, blockSize }: Recording, at: number, leaked: number): readonly Finding[] {
  const { bytes, diskSize } = timeline.touched(at, blockSize);
  const allowed = Math.max(4 * blockSize, diskSize / 4) + bytes + 32 * blockSize;
  return leaked > allowed ? [{ fault: 'corrupt', what: `${leaked} bytes leaked, ${allowed} allowed` }] : [];
}

function counted(findings: readonly Finding[]): Pick<Tally, 'bad' | Fault> {
  const has = (fault: Fault): number => (findings.some((finding) => finding.fault === fault) ? 1 : 0);
  return { bad: Math.min(1, findings.length), corrupt: has('corrupt'), lost: has('lost'), stray: has('stray') };
}

/** How to see it again, and what is wrong. */
function report(workload: Workload, { seed }: RunOptions, id: string, findings: readonly Finding[]): string {
  const shown = findings.slice(0, 3).map(({ fault, what }) => `${fault}: ${what}`);
  return `IMGFS_SEED=${seed} IMGFS_CRASH_ONLY='${workload.name}@${id}'\n    ${shown.join('\n    ')}`;
}

/** After a clean close nothing may be wrong, and nothing leaked that the format could have given back. */
function atEnd({ rig, after }: Recording, examiner: Examiner, workload: Workload): Tally {
  const { corruptions, leakedBytes } = examiner.check(rig, after);
  const wrong = [
    ...corruptions,
    ...(leakedBytes > 0 && workload.loses === undefined ? [`${leakedBytes} bytes leaked`] : []),
  ];
  const { host } = examiner;
  if (host !== undefined && rig.qemu.startsWith('checks')) {
    const { code, output } = host.check(host.put(rig.files, after), rig.format.name);
    if (code !== 0) wrong.push(`qemu-img check ends with ${code}: ${output}`);
  }
  if (wrong.length === 0) return NOTHING;
  const failures = [`${workload.name}: after a clean close: ${wrong.slice(0, 3).join('; ')}`];
  return { ...NOTHING, bad: 1, corrupt: 1, leakedAtEnd: leakedBytes, failures };
}
