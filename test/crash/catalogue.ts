/** Every workload by name, for the formats that can be written. */
import { imageFormat } from './rig.js';
import type { Workload } from './workload.js';
import { qcow2Workloads } from './workloads-qcow2.js';
import { rawWorkloads } from './workloads-raw.js';
import { sampleWorkloads } from './workloads-samples.js';
import { shortWorkloads } from './workloads-short.js';

const ORDINARY: readonly Workload[] = [...rawWorkloads, ...qcow2Workloads, ...sampleWorkloads];

/** Workloads of all formats that can be written: those written by hand, and those made from samples. */
export function ordinary(): readonly Workload[] {
  return ORDINARY.filter(writable);
}

/** Enumerated ones: all of them, or a seeded sample. */
export function enumerated(seed: number, count?: number): readonly Workload[] {
  return shortWorkloads(seed, count).filter(writable);
}

/** Any workload there is. */
export function workloadNamed(name: string): Workload {
  const found = [...ORDINARY, ...shortWorkloads(0)].find((workload) => workload.name === name);
  if (found === undefined) throw new Error(`no workload is called ${name}`);
  return found;
}

function writable({ format }: Workload): boolean {
  return (typeof format === 'string' ? imageFormat(format) : format).can.write;
}
