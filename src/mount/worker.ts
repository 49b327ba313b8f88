/** What a data worker thread serves: the same views as the main thread, opened again from descriptors alone. */

import { prepareCodecs } from '../codec/zstd.js';
import { formats } from '../formats/index.js';
import type { DataServer, Ino } from '../fuse/adapter.js';
import { type ImagePlan, reopenImage } from '../image/plan.js';
import type { ViewSource } from '../tree/tree.js';
import { Modifications } from './measures.js';
import { receiveNews } from './news.js';
import { Views } from './views.js';

/** Structured-clone data. */
export interface DataJob {
  readonly plans: readonly ImagePlan[];
  readonly sources: Map<Ino, ViewSource>;
  /** Preparing costs start-up time: asked for only where the codecs need it. */
  readonly prepareCodecs: boolean;
  /** Where changes of `sources` are told; undefined where there are none. */
  readonly news: string | undefined;
  /** Every write is durable before it is answered. */
  readonly through: boolean;
  /** Of `Modifications`. */
  readonly modifications: SharedArrayBuffer;
}

/** The entry every worker thread calls (WorkerPlan.module). */
export async function openData(job: DataJob): Promise<DataServer> {
  if (job.prepareCodecs) await prepareCodecs();
  return new Views({
    sources: job.sources,
    through: job.through,
    modifications: new Modifications(job.modifications),
    ...(job.news === undefined ? {} : { update: receiveNews(job.news, job.sources) }),
    openImage: (index) => {
      const plan = job.plans[index];
      if (plan === undefined) throw new Error(`no plan for image ${index}`);
      return reopenImage(plan, formats);
    },
  });
}
