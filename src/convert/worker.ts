/** A thread of the crew: prepares blocks until there are no more. It loads what its sources need, and nothing else. */
import { workerData } from 'node:worker_threads';
import { prepareCodecs } from '../codec/zstd.js';
import { driverNamed } from '../formats/one.js';
import { type ImagePlan, reopenImage } from '../image/plan.js';
import { prepareBlock } from './block.js';
import type { CrewJob } from './crew.js';
import { JoinedDisk } from './joined.js';
import { Ring } from './ring.js';

async function help({ ring: shared, plans, work, prepareCodecs: decodes }: CrewJob): Promise<void> {
  const ring = new Ring(shared);
  if (ring.ended) return;
  if (decodes) await prepareCodecs();
  const drivers = await Promise.all([...new Set(plans.flatMap(formatsOf))].map(driverNamed));
  const images = plans.map((plan) => reopenImage(plan, drivers));
  const disk = new JoinedDisk(images);
  ring.help((slot) => prepareBlock(disk, slot, work));
  for (const image of images) image.close();
}

function formatsOf({ format, images }: ImagePlan): readonly string[] {
  return [format, ...Object.values(images).flatMap(formatsOf)];
}

void help(workerData as CrewJob);
