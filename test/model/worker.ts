/** A thread that runs the model test on one configuration after the other. */
import { HostCopy } from '../crash/host-copy.js';
import { structureCheck } from '../crash/structure.js';
import { sameStart } from '../crash/world.js';
import { serve } from '../support/crew.js';
import { hasTool } from '../support/scratch.js';
import { Random } from '../support/seed.js';
import { configurations } from './configurations.js';
import { type ModelResult, runModel } from './model-run.js';

export interface Order {
  readonly configuration: string;
  readonly operations: number;
  readonly seed: number;
}

export interface Answer {
  readonly configuration: string;
  readonly seconds: number;
  readonly wrong: readonly string[];
}

/** The module, for `runCrew`. */
export const WORKER = new URL(import.meta.url);

serve<Order, Answer>(({ configuration, operations, seed }) => {
  const started = performance.now();
  const wrong = problems(configuration, operations, seed);
  return { configuration, wrong, seconds: (performance.now() - started) / 1000 };
});

function problems(name: string, operations: number, seed: number): readonly string[] {
  const configuration = configurations().find((one) => one.name === name);
  if (configuration === undefined) return [`there is no ${name}`];
  try {
    const result = runModel(configuration, operations, new Random(seed));
    const { corruptions, leakedBytes } = structureCheck(result.rig)(result.rig, result.files);
    const leaks = leakedBytes > 0 && configuration.loses === undefined ? [`${leakedBytes} bytes leaked`] : [];
    return [...corruptions, ...leaks, ...(hasTool('qemu-img') ? ofQemu(result) : [])];
  } catch (error) {
    return [error instanceof Error ? (error.stack ?? error.message) : String(error)];
  }
}

/** qemu-img must find nothing to say about the image, and read the same disk and snapshots. */
function ofQemu({ rig, files, model }: ModelResult): readonly string[] {
  const format = rig.format.name;
  if (rig.qemu === 'nothing') return [];
  const host = new HostCopy();
  try {
    const image = host.put(rig.files, files);
    const wrong: string[] = [];
    if (rig.qemu.startsWith('checks')) {
      const { code, output } = host.check(image, format);
      if (code !== 0) wrong.push(`qemu-img check ends with ${code}: ${output}`);
    }
    const compared = host.compare(image, format, model.disk.subarray(0, model.size));
    if (compared !== '') wrong.push(compared);
    for (const [name, past] of model.snapshots) {
      if (!sameStart(host.read(image, format, name), past)) wrong.push(`QEMU reads another snapshot ${name}`);
    }
    return wrong;
  } finally {
    host.dispose();
  }
}
