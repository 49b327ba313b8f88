/** Writing through a mount in each caching mode, beside qemu-storage-daemon's FUSE export and a plain file. */
import path from 'node:path';
import { CACHES, type CacheMode } from '../src/mount/options.js';
import type { Contest, Group, Readings } from './contest.js';
import { type Files, makeFiles } from './files.js';
import { BRIEFLY, fio, SMALL } from './fio.js';
import { allocatedImage, emptyImage } from './images.js';
import { Loop } from './loop.js';
import { Field } from './reads.js';
import { imgfs, plainFile, qsd, qsdNative, RIVALS, type Server, type Serving, start } from './servers.js';
import { run } from './workplace.js';

const MIB = 2 ** 20;
const GROWN_BYTES = 512 * MIB;
const ALLOCATED_BYTES = 256 * MIB;
const LOOP_BYTES = 1024 * MIB;

const MODES = Object.keys(CACHES) as readonly CacheMode[];
const SERVERS: readonly Server[] = [imgfs, qsd, qsdNative, plainFile];

export async function writes(directory: string): Promise<Group> {
  const files = await makeFiles(directory);
  const field = new Field(directory);
  return {
    title: 'writes',
    about:
      `a qcow2 in ${path.dirname(directory)}, through the mount, O_DIRECT; the plain file is opened as the mode says; ` +
      `copy: ${(files.bytes / MIB).toFixed(0)} MiB in many files, onto ext4 on a loop device over the view`,
    contestants: SERVERS.map(({ name }) => name),
    ours: imgfs.name,
    rivals: RIVALS,
    contests: [
      ...MODES.map((mode) => growing(directory, field, mode)),
      // Without a flush among them these writes are the same in mode unsafe.
      ...MODES.filter((mode) => mode !== 'unsafe').map((mode) => random(directory, field, mode)),
      ...MODES.map((mode) => copying(directory, field, files, mode)),
    ],
  };
}

/** How a program must use a plain file to get what the mode promises. */
function plainOptions(mode: CacheMode): { readonly direct: boolean; readonly options: readonly string[] } {
  const { direct, through } = CACHES[mode];
  return { direct, options: through ? ['--sync=dsync'] : [] };
}

/** Writes by fio through what serves, or past it where nothing does. */
export async function written(
  serving: Serving,
  options: readonly string[],
): Promise<{ iops: number; megabytes: number }> {
  const { view, exhibit, pid } = serving;
  const mode = exhibit.access === 'read' ? 'writeback' : exhibit.access;
  const plain = pid === undefined ? plainOptions(mode) : { direct: true, options: [] };
  return await fio(view, exhibit.size, [...options, ...plain.options], plain.direct);
}

/** MB/s of 1 MiB writes, one after the other, into an image that is new, flushed at the end. */
export async function growth(
  server: Server,
  directory: string,
  { format, mode, mountpoint }: { readonly format: string; readonly mode: CacheMode; readonly mountpoint: string },
): Promise<number> {
  const image = await emptyImage(directory, format, GROWN_BYTES, mode);
  const serving = await start(server, image, mountpoint);
  try {
    const flush = mode === 'unsafe' && serving.pid === undefined ? [] : ['--end_fsync=1'];
    return (await written(serving, ['--rw=write', '--bs=1M', '--ioengine=psync', ...flush])).megabytes;
  } finally {
    await serving.stop();
    image.remove();
  }
}

/** The servers that make sense in the mode, each with what it does once. */
export function entries<T>(
  servers: readonly Server[],
  mode: CacheMode,
  once: (server: Server) => Promise<T>,
): ReadonlyMap<string, () => Promise<T>> {
  const exhibit = { path: '', format: 'raw', raw: '', size: 0, access: mode };
  const suited = servers.filter(({ suits }) => suits === undefined || suits(exhibit));
  return new Map(suited.map((server) => [server.name, () => once(server)]));
}

function growing(directory: string, field: Field, mode: CacheMode): Contest {
  const id = `grow-${mode}`;
  const once = async (server: Server): Promise<Readings> => {
    return { [id]: await growth(server, directory, { format: 'qcow2', mode, mountpoint: field.mountpoint() }) };
  };
  return {
    measures: [{ id, title: `growing 1 MiB writes, ${mode}`, unit: 'MB/s', better: 'more', expected: 1.3 }],
    warmUp: false,
    contestants: entries(SERVERS, mode, once),
  };
}

function random(directory: string, field: Field, mode: CacheMode): Contest {
  // An image of its own for each: nobody shares one that he writes.
  const images = new Map<Server, Awaited<ReturnType<typeof allocatedImage>>>();
  const once = async (server: Server): Promise<Readings> => {
    const image = images.get(server) ?? (await allocatedImage(directory, 'qcow2', ALLOCATED_BYTES, mode));
    images.set(server, image);
    const serving = await field.kept(server, image);
    const run1 = await written(serving, ['--rw=randwrite', ...BRIEFLY, ...SMALL.depth1]);
    const run16 = await written(serving, ['--rw=randwrite', ...BRIEFLY, ...SMALL.depth16]);
    return { [`small-qd1-${mode}`]: run1.iops, [`small-qd16-${mode}`]: run16.iops };
  };
  const measure = { unit: 'IOPS', better: 'more', expected: 2 } as const;
  return {
    measures: [
      { id: `small-qd1-${mode}`, title: `4 KiB random writes, depth 1, ${mode}`, ...measure },
      { id: `small-qd16-${mode}`, title: `4 KiB random writes, depth 16, ${mode}`, ...measure },
    ],
    warmUp: true,
    contestants: entries(SERVERS, mode, once),
    async end() {
      await field.stopAll();
      for (const image of images.values()) image.remove();
    },
  };
}

function copying(directory: string, field: Field, files: Files, mode: CacheMode): Contest {
  const id = `copy-${mode}`;
  const once = async (server: Server): Promise<Readings> => {
    const image = await emptyImage(directory, 'qcow2', LOOP_BYTES, mode);
    const serving = await start(server, image, field.mountpoint());
    try {
      const direct = serving.pid === undefined && CACHES[mode].direct;
      return { [id]: await copy(serving.view, field.mountpoint(), files, direct) };
    } finally {
      await serving.stop();
      image.remove();
    }
  };
  return {
    measures: [{ id, title: `mkfs.ext4 and copy, ${mode}`, unit: 's', better: 'less' }],
    warmUp: false,
    contestants: entries(SERVERS, mode, once),
  };
}

/** Seconds from mkfs to the end of umount. */
async function copy(view: string, mountpoint: string, { tree }: Files, direct: boolean): Promise<number> {
  const loop = await Loop.over(view, mountpoint, { direct });
  try {
    const begin = performance.now();
    await loop.make('ext4');
    await loop.mount();
    await run('cp', ['-r', tree, mountpoint]);
    await loop.unmount();
    return (performance.now() - begin) / 1000;
  } finally {
    await loop.end();
  }
}
