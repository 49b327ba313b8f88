/** A disk read where it lies in an appliance, beside the same disk unpacked: both by imgfs. */
import fs from 'node:fs';
import path from 'node:path';
import { archive } from '../src/formats/ova/samples/archive.js';
import { virtualBox } from '../src/formats/ova/samples/descriptors.js';
import type { Contest, Group } from './contest.js';
import { convert, writeDisk } from './images.js';
import { Field, randomReads, sequential } from './reads.js';
import { type Exhibit, imgfs, type Server, type Serving } from './servers.js';

const DISK_BYTES = 256 * 2 ** 20;
const EXPECTED = 0.8;
const HREF = 'appliance-disk1.vmdk';

const unpacked: Server = { ...imgfs, name: 'unpacked' };
const inPlace: Server = {
  ...imgfs,
  name: 'in the archive',
  view: (_exhibit, at) => path.join(at, path.parse(HREF).name, 'disk.raw'),
};

export async function appliances(directory: string): Promise<Group> {
  const raw = path.join(directory, 'appliance.raw');
  writeDisk(raw, DISK_BYTES);
  const disk = await convert(raw, path.join(directory, HREF), 'vmdk', '-o', 'subformat=streamOptimized');
  const descriptor = Buffer.from(virtualBox([{ href: HREF, capacity: DISK_BYTES }]));
  const members = [
    { name: 'appliance.ovf', bytes: descriptor },
    { name: HREF, bytes: fs.readFileSync(disk.path) },
  ];
  const ova: Exhibit = { ...disk, path: path.join(directory, 'appliance.ova'), format: 'ova' };
  fs.writeFileSync(ova.path, archive(members));
  const field = new Field(directory);
  const contest = (
    id: string,
    title: string,
    unit: 'IOPS' | 'MB/s',
    once: (serving: Serving) => Promise<number>,
  ): Contest => ({
    measures: [{ id, title, unit, better: 'more', expected: EXPECTED }],
    warmUp: true,
    contestants: new Map([
      [inPlace.name, async () => ({ [id]: await once(await field.kept(inPlace, ova)) })],
      [unpacked.name, async () => ({ [id]: await once(await field.kept(unpacked, disk)) })],
    ]),
  });
  return {
    title: 'appliances',
    about: `a streamOptimized disk of ${DISK_BYTES / 2 ** 20} MiB in ${path.dirname(directory)}, mounted in its archive and unpacked`,
    contestants: [inPlace.name, unpacked.name],
    ours: inPlace.name,
    rivals: [unpacked.name],
    contests: [
      contest('ova-depth1', 'appliance, 4 KiB random reads, depth 1', 'IOPS', (serving) =>
        randomReads(serving, 'depth1'),
      ),
      contest('ova-depth16', 'appliance, 4 KiB random reads, depth 16', 'IOPS', (serving) =>
        randomReads(serving, 'depth16'),
      ),
      contest('ova-sequential', 'appliance, sequential read', 'MB/s', sequential),
    ],
    end: () => field.stopAll(),
  };
}
