/** Images that name files they should not have: built into a directory, with a secret beside that directory. */

import fs from 'node:fs';
import path from 'node:path';
import { virtualBox } from '../../src/formats/ova/samples/descriptors.js';
import { SampleImage, type SampleOptions } from '../../src/formats/qcow2/samples/image.js';
import { textOf } from '../../src/formats/vmdk/samples/catalogue.js';

export const SECRET = 'the secret of the host, which no image may show';

/** A qcow2 of one MiB, all of it a hole, so that whatever it names shows through. */
export function qcow2Naming(options: Partial<SampleOptions>): Uint8Array {
  return new SampleImage({ size: 2 ** 20, clusterBits: 12, ...options }).build();
}

/** The text of a vmdk with these extents, a delta of `parent`. */
export function vmdkNaming(extents: readonly string[], parent?: string): Uint8Array {
  return Buffer.from(textOf('custom', extents, parent));
}

export interface Place {
  /** Where the images lie. */
  readonly home: string;
  /** Outside it: a file no image may reach. */
  readonly secret: string;
  /** Writes a file into `home` and returns its path. */
  put(name: string, bytes: Uint8Array): string;
  /** Writes a qcow2 into `home` that names `backing`, in the format given. */
  backed(name: string, backing: string, format?: string): string;
}

/** Lays out `directory`: `images/` and, beside it, the secret. */
export function makePlace(directory: string): Place {
  const home = path.join(directory, 'images');
  const secret = path.join(directory, 'secret');
  fs.mkdirSync(path.join(home, 'sub'), { recursive: true });
  fs.writeFileSync(secret, SECRET.padEnd(4096));
  const put = (name: string, bytes: Uint8Array): string => {
    fs.writeFileSync(path.join(home, name), bytes);
    return path.join(home, name);
  };
  const backed = (name: string, backing: string, format?: string): string =>
    put(name, qcow2Naming({ backing: format === undefined ? { name: backing } : { name: backing, format } }));
  return { home, secret, put, backed };
}

/** Paths that do not exist: an attempt to open one shows in a recording of system calls. */
export const MARKS = { begin: '/imgfs-mark-begin', end: '/imgfs-mark-end' } as const;

/** Names of other protocols and pseudo-protocols, as past attacks used them. */
export const PROTOCOL_NAMES: Readonly<Record<string, readonly string[]>> = {
  'json-name': [
    'json:{"driver":"file","filename":"/etc/passwd"}',
    'json:{"driver":"qcow2","file":{"driver":"nbd","host":"127.0.0.1","port":"1"}}',
    'JSON:{}',
  ],
  'nbd-name': ['nbd:127.0.0.1:1', 'nbd://127.0.0.1/x', 'nbd+unix:///x?socket=/tmp/s'],
  'http-name': ['http://127.0.0.1:1/x', 'https://127.0.0.1:1/x', 'ftp://127.0.0.1/x'],
  'other-protocol-name': ['file:/etc/passwd', 'file:base', 'fat:rw:/etc', 'host_device:/dev/loop0', 'my_proto:x', ':x'],
};

/** Everything hostile that names something, in one place: what the system-call recording opens. */
export function writeCorpus(place: Place): void {
  const { home, secret, backed, put } = place;
  const names: string[] = [
    secret,
    '../secret',
    'sub/../../secret',
    './../images/../secret',
    'link-out',
    'link-directory/secret',
    '/etc/passwd',
    '/etc/shadow',
    '../../../../../../../../etc/passwd',
    '/proc/self/environ',
    '/proc/self/root/etc/passwd',
    '/proc/1/root/etc/passwd',
    '/proc/self/cwd',
    '/dev/zero',
    '/dev/mem',
    '/dev/tty',
    '/sys/kernel/notes',
    'fifo',
    'sub',
    '.',
    '..',
    '/',
    ...Object.values(PROTOCOL_NAMES).flat(),
  ];
  fs.symlinkSync(secret, path.join(home, 'link-out'));
  fs.symlinkSync('..', path.join(home, 'link-directory'));
  names.forEach((name, n) => {
    for (const format of [undefined, 'raw', 'qcow2', 'file', 'host_device']) backed(`b${n}-${format}`, name, format);
    put(`d${n}`, qcow2Naming({ dataFile: { name } }));
    put(`r${n}`, qcow2Naming({ dataFile: { name, raw: true } }));
    // No line of a text can hold such a name.
    if (name.includes('"')) return;
    put(`e${n}`, vmdkNaming([`RW 8 FLAT "${name}" 0`]));
    put(`s${n}`, vmdkNaming([`RW 8 SPARSE "${name}"`]));
    put(`p${n}`, vmdkNaming(['RW 8 ZERO'], name));
    put(`o${n}.ovf`, Buffer.from(virtualBox([{ href: name }])));
  });
  backed('self', 'self', 'qcow2');
  backed('unformatted-inner', '../secret', 'raw');
  backed('unformatted', 'unformatted-inner');
}
