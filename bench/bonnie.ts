/** bonnie++ on ext2 on a loop device: over a view of a fully allocated qcow2, of a raw file, and over a plain file. */
import path from 'node:path';
import type { Contest, Group, Measure, Readings } from './contest.js';
import { allocatedImage } from './images.js';
import { Loop } from './loop.js';
import { Field } from './reads.js';
import { imgfs, plainFile, type Server, start } from './servers.js';
import { run } from './workplace.js';

const MIB = 2 ** 20;
const IMAGE_BYTES = 768 * MIB;
const FILE_MIB = 384;
/** In units of 1024. */
const SMALL_FILES = 4;

const CONTESTANTS: Readonly<Record<string, { readonly server: Server; readonly format: string }>> = {
  qcow2: { server: imgfs, format: 'qcow2' },
  'raw view': { server: imgfs, format: 'raw' },
  'plain file': { server: plainFile, format: 'raw' },
};

const RATE = { better: 'more', expected: 0.95 } as const;

/**
 * Columns of the line that `bonnie++ -q` prints, from 0. Reading and seeking are missing: they are served from the cache
 * of the file system, and bonnie++ gives no number for what is over in half a second.
 */
const COLUMNS: readonly (Measure & { readonly column: number })[] = [
  { id: 'bonnie-write', title: 'sequential output', unit: 'KiB/s', column: 11, ...RATE },
  { id: 'bonnie-rewrite', title: 'rewrite', unit: 'KiB/s', column: 13, ...RATE },
  { id: 'bonnie-create', title: 'files created, in order', unit: '/s', column: 26, ...RATE },
  { id: 'bonnie-delete', title: 'files deleted, in order', unit: '/s', column: 30, ...RATE },
  { id: 'bonnie-create-random', title: 'files created, any order', unit: '/s', column: 32, ...RATE },
  { id: 'bonnie-delete-random', title: 'files deleted, any order', unit: '/s', column: 36, ...RATE },
];

const WHOLE: Measure = { id: 'bonnie', title: 'the whole run', unit: 's', better: 'less', expected: 0.95 };

export async function bonnie(directory: string): Promise<Group> {
  const field = new Field(directory);
  const contest: Contest = {
    measures: [WHOLE, ...COLUMNS],
    warmUp: false,
    contestants: new Map(Object.keys(CONTESTANTS).map((name) => [name, () => once(directory, field, name)])),
  };
  return {
    title: 'bonnie++ on allocated space',
    about:
      `bonnie++ -b -D -f -s ${FILE_MIB} -n ${SMALL_FILES} on ext2 on a loop device, caching mode writeback, ` +
      `images in ${path.dirname(directory)}`,
    contestants: Object.keys(CONTESTANTS),
    ours: 'qcow2',
    rivals: ['raw view'],
    contests: [contest],
  };
}

async function once(directory: string, field: Field, name: string): Promise<Readings> {
  const { server, format } = CONTESTANTS[name]!;
  const image = await allocatedImage(directory, format, IMAGE_BYTES, 'writeback');
  const serving = await start(server, image, field.mountpoint());
  try {
    const at = field.mountpoint();
    const loop = await Loop.over(serving.view, at);
    try {
      await loop.make('ext2');
      await loop.mount();
      const readings = await measure(at);
      await loop.unmount();
      return readings;
    } finally {
      await loop.end();
    }
  } finally {
    await serving.stop();
    image.remove();
  }
}

/** Every write is flushed (-b), large files bypass the page cache of the file system (-D), no single characters (-f). */
async function measure(at: string): Promise<Readings> {
  const sizes = ['-s', String(FILE_MIB), '-r', '0', '-n', String(SMALL_FILES)];
  const begin = performance.now();
  const { stdout } = await run('bonnie++', ['-d', at, '-u', 'root', '-q', '-b', '-D', '-f', ...sizes]);
  const values = stdout.trim().split(',');
  const readings: Record<string, number | undefined> = { [WHOLE.id]: (performance.now() - begin) / 1000 };
  for (const { id, column } of COLUMNS) {
    const value = Number(values[column]);
    readings[id] = values[column] !== '' && Number.isFinite(value) ? value : undefined;
  }
  return readings;
}
