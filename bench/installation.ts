/**
 * An image that grows as it does under the installation of an operating system (a file system is made, many files are
 * unpacked, with points at which all must be durable), beside a raw file that does: both as views.
 */
import path from 'node:path';
import type { CacheMode } from '../src/mount/options.js';
import type { Contest, Group, Readings } from './contest.js';
import { makeFiles } from './files.js';
import { emptyImage } from './images.js';
import { Loop } from './loop.js';
import { Field } from './reads.js';
import { imgfs, start } from './servers.js';
import { run } from './workplace.js';

const SIZE = 2 ** 30;
const FORMATS = { qcow2: 'qcow2', 'raw view': 'raw' } as const;
const EXPECTED = { none: 0.9, writethrough: 0.75, writeback: 0.9 } as const;

/** `directory` is where the images grow, `memory` where the files come from. */
export async function installation(directory: string, memory: string): Promise<Group> {
  const files = await makeFiles(memory);
  const field = new Field(directory);
  const contest = (mode: CacheMode, expected: number): Contest => {
    const id = `install-${mode}`;
    const once = async (format: string): Promise<Readings> => {
      return { [id]: await install(directory, field, { format, mode, archives: files.archives }) };
    };
    return {
      measures: [{ id, title: `installation, ${mode}`, unit: 's', better: 'less', expected }],
      warmUp: false,
      contestants: new Map(Object.entries(FORMATS).map(([name, format]) => [name, () => once(format)])),
    };
  };
  return {
    title: 'growing as an installation does',
    about: `images in ${path.dirname(directory)}; ext4 on a loop device over the view, ${files.archives.length} archives, each synchronised`,
    contestants: Object.keys(FORMATS),
    ours: 'qcow2',
    rivals: ['raw view'],
    contests: Object.entries(EXPECTED).map(([mode, expected]) => contest(mode as CacheMode, expected)),
  };
}

interface Installation {
  readonly format: string;
  readonly mode: CacheMode;
  readonly archives: readonly string[];
}

/** Seconds. */
async function install(directory: string, field: Field, { format, mode, archives }: Installation): Promise<number> {
  const image = await emptyImage(directory, format, SIZE, mode);
  // Deleting the last one is still being written: nobody should be measured with that.
  await run('sync', ['-f', directory]);
  const serving = await start(imgfs, image, field.mountpoint());
  try {
    const at = field.mountpoint();
    const loop = await Loop.over(serving.view, at);
    try {
      const begin = performance.now();
      await loop.make('ext4');
      await loop.mount();
      for (const archive of archives) {
        await run('tar', ['-C', at, '--no-same-owner', '-xf', archive]);
        await run('sync', ['-f', at]);
      }
      await loop.unmount();
      return (performance.now() - begin) / 1000;
    } finally {
      await loop.end();
    }
  } finally {
    await serving.stop();
    image.remove();
  }
}
