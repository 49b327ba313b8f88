/** Reading a mounted image, beside qemu-storage-daemon's FUSE export and a raw file. */
import fs from 'node:fs';
import path from 'node:path';
import { setTimeout } from 'node:timers/promises';
import type { Contest, Group, Measure } from './contest.js';
import { BRIEFLY, fio, SMALL } from './fio.js';
import { buildReadImages, type ImageName, type ReadImages } from './images.js';
import {
  type Exhibit,
  fuseNative,
  imgfs,
  plainFile,
  qsd,
  qsdNative,
  RIVALS,
  type Server,
  type Serving,
  start,
  usable,
} from './servers.js';
import { run } from './workplace.js';

/** Milliseconds after which all threads of a server have come. */
const SETTLED = 2000;
const MS_PER_TICK = 10;
const SERVERS: readonly Server[] = [imgfs, fuseNative, qsd, qsdNative, plainFile];

interface ReadMeasure extends Measure {
  readonly image: ImageName;
  /** The server is started anew for each run: what is measured is the start, or what it has become since. */
  readonly fresh?: true;
  /** The value; undefined where the server has no such thing. */
  once(serving: Serving): Promise<number | undefined>;
}

/** Starts servers when they are first needed, and keeps them for all measures of an image. */
export class Field {
  private readonly serving = new Map<string, Serving>();
  private count = 0;

  constructor(private readonly directory: string) {}

  mountpoint(): string {
    this.count += 1;
    return path.join(this.directory, `view-${this.count}`);
  }

  async kept(server: Server, exhibit: Exhibit): Promise<Serving> {
    const key = `${server.name} ${exhibit.access} ${exhibit.path}`;
    const serving = this.serving.get(key) ?? (await start(server, exhibit, this.mountpoint()));
    this.serving.set(key, serving);
    return serving;
  }

  async stopAll(): Promise<void> {
    for (const serving of this.serving.values()) await serving.stop();
    this.serving.clear();
  }
}

/** The view's pages leave the cache, the image's stay. Of the raw file they are the same pages: it is always warm. */
async function coolDown(serving: Serving): Promise<void> {
  if (serving.pid !== undefined) await run('dd', [`if=${serving.view}`, 'iflag=nocache', 'count=0', 'status=none']);
}

/** MB/s of a buffered read of everything. */
export async function sequential(serving: Serving): Promise<number> {
  await coolDown(serving);
  const { stderr } = await run('dd', [`if=${serving.view}`, 'of=/dev/null', 'bs=1M']);
  const seconds = Number(/copied, ([\d.e-]+) s/.exec(stderr)?.[1]);
  return serving.exhibit.size / seconds / 1e6;
}

/** Small random reads past the page cache. */
export async function randomReads(serving: Serving, depth: keyof typeof SMALL): Promise<number> {
  const options = ['--rw=randread', '--readonly', ...BRIEFLY, ...SMALL[depth]];
  return (await fio(serving.view, serving.exhibit.size, options)).iops;
}

async function largeReads(serving: Serving): Promise<number> {
  const options = ['--rw=read', '--readonly', '--bs=1M', '--ioengine=psync', ...BRIEFLY];
  return (await fio(serving.view, serving.exhibit.size, options)).megabytes;
}

/** Resident memory: a program's own text counts in full, so it does not depend on what else runs. */
function memoryOf(serving: Serving): number | undefined {
  if (serving.pid === undefined) return undefined;
  const status = fs.readFileSync(`/proc/${serving.pid}/status`, 'utf8');
  return Number(/^VmRSS:\s+(\d+)/m.exec(status)?.[1]) / 1024;
}

/** The same, when the server has done something. */
function memoryAfter(step: (serving: Serving) => Promise<unknown>): ReadMeasure['once'] {
  return async (serving) => {
    await step(serving);
    return memoryOf(serving);
  };
}

/** What a sequential read costs the server in processor time: what is left to compare on a machine with other work. */
async function cost(serving: Serving): Promise<number | undefined> {
  if (serving.pid === undefined) return undefined;
  const before = processorMs(serving.pid);
  await sequential(serving);
  return (processorMs(serving.pid) - before) / (serving.exhibit.size / 1e9);
}

/** Of the process and all its threads, those that have ended included. */
function processorMs(pid: number): number {
  const stat = fs.readFileSync(`/proc/${pid}/stat`, 'latin1');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[11]) + Number(fields[12])) * MS_PER_TICK;
}

const plain = { unit: 'MB/s', better: 'more', image: 'plain' } as const;
const random = { unit: 'IOPS', better: 'more', image: 'plain' } as const;
const memory = { unit: 'MiB', better: 'less', image: 'plain', fresh: true } as const;

const MEASURES: readonly ReadMeasure[] = [
  { id: 'buffered', title: 'sequential read, buffered', ...plain, expected: 2.5, once: sequential },
  { id: 'direct-1m', title: '1 MiB reads, O_DIRECT', ...plain, expected: 3, once: largeReads },
  {
    id: 'random-qd1',
    title: '4 KiB random, O_DIRECT, depth 1',
    ...random,
    expected: 2,
    once: (serving) => randomReads(serving, 'depth1'),
  },
  {
    id: 'random-qd16',
    title: '4 KiB random, O_DIRECT, depth 16',
    ...random,
    expected: 2,
    once: (serving) => randomReads(serving, 'depth16'),
  },
  { id: 'zlib', title: 'sequential read, zlib clusters', ...plain, image: 'zlib', expected: 1, once: sequential },
  { id: 'zstd', title: 'sequential read, zstd clusters', ...plain, image: 'zstd', expected: 1, once: sequential },
  { id: 'cost', title: 'processor time, sequential read', unit: 'ms/GB', better: 'less', image: 'plain', once: cost },
  { id: 'cost-zlib', title: 'processor time, zlib clusters', unit: 'ms/GB', better: 'less', image: 'zlib', once: cost },
  {
    id: 'first-byte',
    title: 'command to first byte',
    unit: 'ms',
    better: 'less',
    image: 'plain',
    fresh: true,
    once: async (serving) => (serving.pid === undefined ? undefined : serving.firstByteMs),
  },
  {
    id: 'memory-idle',
    title: 'memory (RSS), idle',
    ...memory,
    once: memoryAfter(() => setTimeout(SETTLED)),
  },
  {
    id: 'memory-used',
    title: 'memory (RSS), after reading all',
    ...memory,
    once: memoryAfter(sequential),
  },
];

export async function reads(directory: string): Promise<Group> {
  const images = await buildReadImages(directory);
  const field = new Field(directory);
  const servers = await usable(SERVERS, images.plain, () => field.mountpoint());
  return {
    title: 'reads',
    about: `a qcow2 in ${path.dirname(directory)}, through the mount`,
    contestants: servers.map(({ name }) => name),
    ours: imgfs.name,
    rivals: RIVALS,
    contests: MEASURES.map((measure) => contest(measure, servers, images, field)),
    end: () => field.stopAll(),
  };
}

function contest(measure: ReadMeasure, servers: readonly Server[], images: ReadImages, field: Field): Contest {
  const exhibit = images[measure.image];
  const { id, fresh } = measure;
  const once = async (server: Server): Promise<number | undefined> => {
    if (fresh !== true) return await measure.once(await field.kept(server, exhibit));
    const serving = await start(server, exhibit, field.mountpoint());
    try {
      return await measure.once(serving);
    } finally {
      await serving.stop();
    }
  };
  return {
    measures: [measure],
    warmUp: true,
    contestants: new Map(servers.map((server) => [server.name, async () => ({ [id]: await once(server) })])),
  };
}
