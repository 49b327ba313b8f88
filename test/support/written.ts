import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import { expect } from 'chai';
import { formats } from '../../src/formats/index.js';
import { qcow2 } from '../../src/formats/qcow2/index.js';
import type { OpenContext } from '../../src/image/format.js';
import type { Image } from '../../src/image/image.js';
import { formatNamed } from '../../src/image/probe.js';
import { MemoryStorage } from '../../src/storage/memory.js';
import type { Storage } from '../../src/storage/storage.js';
import { closedContext } from './images.js';
import { sampleKey } from './samples.js';

/** What an image names, by name: images to read from, and storages to write to. */
export interface Named {
  readonly images?: Readonly<Record<string, { readonly bytes: Buffer; readonly format: string }>>;
  readonly storages?: Readonly<Record<string, Storage>>;
}

/** A context that opens what is named from memory. */
export function writableContext(named: Named = {}, more: Partial<OpenContext> = {}): OpenContext {
  const context: OpenContext = {
    ...closedContext(),
    standIns: false,
    key: sampleKey,
    writable: true,
    openStorage: ({ name }) => {
      const storage = named.storages?.[name];
      if (storage === undefined) throw new Error(`${name} is not there`);
      return storage;
    },
    openImage: ({ name }) => {
      const found = named.images?.[name];
      if (found === undefined) throw new Error(`${name} is not there`);
      const format = formatNamed(formats, found.format);
      if (format.kind !== 'image') throw new Error(`${found.format} cannot be opened`);
      return format.open(MemoryStorage.from(found.bytes), { ...context, writable: false });
    },
    ...more,
  };
  return context;
}

/** Opens a qcow2 image in memory for writing. */
export function openWritable(storage: Storage, named: Named = {}, more: Partial<OpenContext> = {}): Image {
  return qcow2.open(storage, writableContext(named, more));
}

/** qemu-img check: nothing wrong and nothing leaked (or, with `leaks`, nothing wrong). */
export function expectClean(file: string, leaks = false): void {
  const { status, stdout, stderr } = spawnSync('qemu-img', ['check', '-f', 'qcow2', file], { encoding: 'utf8' });
  if (status === 0 || (leaks && status === 3)) return;
  expect.fail(`qemu-img check ${status}: ${stdout.slice(0, 2000)}${stderr.slice(0, 2000)}`);
}

/** The disk in the file is these bytes, says QEMU. `options` choose a snapshot. */
export function expectDisk(file: string, disk: Buffer, ...options: readonly string[]): void {
  const raw = `${file}.as-raw`;
  const { status, stderr } = spawnSync('qemu-img', ['convert', '-f', 'qcow2', '-O', 'raw', ...options, file, raw]);
  expect(status, String(stderr)).to.equal(0);
  const found = fs.readFileSync(raw);
  fs.rmSync(raw);
  expect(found.length).to.equal(disk.length);
  if (!found.equals(disk)) {
    const at = found.findIndex((byte, i) => byte !== disk[i]);
    expect.fail(`the disk differs from ${at} on: ${found[at]} instead of ${disk[at]}`);
  }
}
