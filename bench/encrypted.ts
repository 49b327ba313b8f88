/** LUKS, aes-256-xts, read and written, beside qemu-storage-daemon with the same image and the same secret. */
import fs from 'node:fs';
import path from 'node:path';
import type { Contest, Group } from './contest.js';
import { writeDisk } from './images.js';
import { Field, sequential } from './reads.js';
import { type Exhibit, IMGFS, imgfs, plainFile, qemuSecret, qsd, qsdNative, RIVALS, type Server } from './servers.js';
import { run } from './workplace.js';
import { written } from './writes.js';

const DISK_BYTES = 256 * 2 ** 20;
const SERVERS: readonly Server[] = [imgfs, qsd, qsdNative, plainFile];

/** By the name of the format, and what comes before the names of its options. */
const KINDS = [
  { name: 'qcow2', title: 'qcow2 with LUKS', prefix: 'encrypt.', options: 'encrypt.format=luks,' },
  { name: 'luks', title: 'luks', prefix: '', options: '' },
] as const;

type Kind = (typeof KINDS)[number];

export async function encrypted(directory: string): Promise<Group> {
  const field = new Field(directory);
  const raw = path.join(directory, 'encrypted.raw');
  const secret = path.join(directory, 'secret');
  writeDisk(raw, DISK_BYTES);
  fs.writeFileSync(secret, 'an open sesame', { mode: 0o600 });
  const make = (kind: Kind, name: string, access: Exhibit['access']): Promise<Exhibit> =>
    sealed(kind, {
      path: path.join(directory, `${name}.${kind.name}`),
      format: kind.name,
      raw,
      size: DISK_BYTES,
      access,
      secret,
    });
  const contests: Contest[] = [];
  for (const kind of KINDS)
    contests.push(reading(kind, await make(kind, 'read', 'read'), field), writing(kind, make, field));
  return {
    title: 'encrypted',
    about: `LUKS images of aes-256-xts in ${path.dirname(directory)}, through the mount; written where space is allocated`,
    contestants: SERVERS.map(({ name }) => name),
    ours: imgfs.name,
    rivals: RIVALS,
    contests,
    end: () => field.stopAll(),
  };
}

/** Header and key by imgfs, whose measure of the time a guess takes does not fail on a busy machine; content by QEMU. */
async function sealed({ prefix, options }: Kind, image: Exhibit): Promise<Exhibit> {
  const { path: file, format, raw, size, secret = '' } = image;
  const making = ['create', '-q', '-f', format, '-o', `${options}${prefix}iter-time=10`, '--password-file', secret];
  await run(process.execPath, [IMGFS, ...making, file, String(size)]);
  const target = `driver=${format},file.filename=${file},${prefix}key-secret=s`;
  await run('qemu-img', ['convert', '-n', ...qemuSecret(secret), '-f', 'raw', raw, '--target-image-opts', target]);
  return image;
}

function reading({ name, title }: Kind, image: Exhibit, field: Field): Contest {
  const id = `${name}-read`;
  const once = async (server: Server) => ({ [id]: await sequential(await field.kept(server, image)) });
  return {
    measures: [{ id, title: `${title}, sequential read`, unit: 'MB/s', better: 'more', expected: 1 }],
    warmUp: true,
    contestants: new Map(SERVERS.map((server) => [server.name, () => once(server)])),
    end: () => field.stopAll(),
  };
}

/** In mode writeback, which qsd-native has no way of its own for. */
function writing(
  kind: Kind,
  make: (kind: Kind, name: string, access: Exhibit['access']) => Promise<Exhibit>,
  field: Field,
): Contest {
  const id = `${kind.name}-write`;
  // An image of its own for each: nobody shares one that he writes.
  const images = new Map<Server, Exhibit>();
  const once = async (server: Server) => {
    const image = images.get(server) ?? (await make(kind, `write-${server.name}`, 'writeback'));
    images.set(server, image);
    const options = ['--rw=write', '--bs=1M', '--ioengine=psync', '--end_fsync=1'];
    return { [id]: (await written(await field.kept(server, image), options)).megabytes };
  };
  const servers = [imgfs, qsd, plainFile];
  return {
    measures: [{ id, title: `${kind.title}, 1 MiB writes`, unit: 'MB/s', better: 'more', expected: 1 }],
    warmUp: true,
    contestants: new Map(servers.map((server) => [server.name, () => once(server)])),
    async end() {
      await field.stopAll();
      for (const { path: image } of images.values()) fs.rmSync(image, { force: true });
    },
  };
}
