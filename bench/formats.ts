/** The other formats, read and grown, beside qemu-storage-daemon: those of the list whose driver is there. */
import path from 'node:path';
import { formats } from '../src/formats/index.js';
import type { Contest, Group, Measure, Readings } from './contest.js';
import { convert, writeDisk } from './images.js';
import { Field, randomReads, sequential } from './reads.js';
import { type Exhibit, imgfs, qsd, qsdNative, RIVALS, type Server, usable } from './servers.js';
import { entries, growth } from './writes.js';

const DISK_BYTES = 256 * 2 ** 20;
const SERVERS: readonly Server[] = [imgfs, qsd, qsdNative];

/** By the name of the format, which is also QEMU's, and what qemu-img is told to make of it. */
const MEASURED: readonly { readonly name: string; readonly options: readonly string[] }[] = [
  { name: 'vmdk', options: ['-o', 'subformat=monolithicSparse'] },
  { name: 'vdi', options: [] },
];

export async function otherFormats(directory: string): Promise<Group> {
  const disk = path.join(directory, 'formats.raw');
  const field = new Field(directory);
  const contests: Contest[] = [];
  for (const { name, options } of MEASURED) {
    const driver = formats.find((format) => format.name === name);
    if (driver?.kind !== 'image') {
      console.log(`without ${name}: it is only recognised`);
      continue;
    }
    if (contests.length === 0) writeDisk(disk, DISK_BYTES);
    const image = await convert(disk, path.join(directory, `formats.${name}`), name, ...options);
    const servers = await usable(SERVERS, image, () => field.mountpoint());
    contests.push(...reading(image, servers, field));
    if (driver.can.write) contests.push(writing(name, servers, directory, field));
  }
  return {
    title: 'other formats',
    about: `images in ${path.dirname(directory)}, made by qemu-img; growing in mode writeback`,
    contestants: SERVERS.map(({ name }) => name),
    ours: imgfs.name,
    rivals: RIVALS,
    contests,
    end: () => field.stopAll(),
  };
}

function reading(image: Exhibit, servers: readonly Server[], field: Field): readonly Contest[] {
  const { format } = image;
  const contest = (measure: Measure, once: (server: Server) => Promise<number>): Contest => ({
    measures: [measure],
    warmUp: true,
    contestants: new Map(servers.map((server) => [server.name, async () => ({ [measure.id]: await once(server) })])),
  });
  const small = (depth: 'depth1' | 'depth16', title: string): Contest => {
    const measure = { id: `${format}-${depth}`, title, unit: 'IOPS', better: 'more' } as const;
    return contest(measure, async (server) => await randomReads(await field.kept(server, image), depth));
  };
  const sequentially = { id: `${format}-sequential`, title: `${format}, sequential read`, better: 'more' } as const;
  return [
    contest({ ...sequentially, unit: 'MB/s' }, async (server) => await sequential(await field.kept(server, image))),
    small('depth1', `${format}, 4 KiB random reads, depth 1`),
    small('depth16', `${format}, 4 KiB random reads, depth 16`),
  ];
}

function writing(format: string, servers: readonly Server[], directory: string, field: Field): Contest {
  const id = `${format}-growing`;
  const once = async (server: Server): Promise<Readings> => {
    return { [id]: await growth(server, directory, { format, mode: 'writeback', mountpoint: field.mountpoint() }) };
  };
  return {
    measures: [{ id, title: `${format}, growing 1 MiB writes`, unit: 'MB/s', better: 'more' }],
    warmUp: false,
    contestants: entries(servers, 'writeback', once),
  };
}
