/** Disks of every kind as files: made by qemu-img or by us, written by either. */

import fs from 'node:fs';
import path from 'node:path';
import { formats } from '../../../src/formats/index.js';
import { vmdk } from '../../../src/formats/vmdk/index.js';
import { OptionValues } from '../../../src/image/creation.js';
import { examineImage } from '../../../src/image/examine.js';
import { FilledImage } from '../../../src/image/filled-image.js';
import type { Image } from '../../../src/image/image.js';
import { createImage } from '../../../src/image/new-image.js';
import { type OpenedImage, openImage } from '../../../src/image/open.js';
import { drained } from '../../../src/lib/steps.js';
import { qemuIo } from '../../support/qemu.js';
import type { Random } from '../../support/seed.js';

export const MIB = 1024 * 1024;

export const AS_VMDK = ['-f', 'vmdk'] as const;

/** Options of the kinds that can be written. */
export const KINDS: Readonly<Record<string, Readonly<Record<string, string | boolean>>>> = {
  monolithicSparse: {},
  'monolithicSparse, zeroed grains': { zeroed_grain: true },
  monolithicFlat: { subformat: 'monolithicFlat' },
  twoGbMaxExtentSparse: { subformat: 'twoGbMaxExtentSparse' },
  'twoGbMaxExtentSparse, zeroed grains': { subformat: 'twoGbMaxExtentSparse', zeroed_grain: true },
  twoGbMaxExtentFlat: { subformat: 'twoGbMaxExtentFlat' },
};

/** Options as qemu-img takes them. */
export function optionText(options: Readonly<Record<string, string | boolean>>): string {
  const words = Object.entries(options).map(([key, value]) => `${key}=${value === true ? 'on' : value}`);
  return words.join(',') || 'adapter_type=ide';
}

/** Makes a disk with imgfs. */
export function make(
  file: string,
  size: number,
  options: Readonly<Record<string, string | boolean>>,
  backing?: string,
): void {
  createImage({
    path: file,
    format: vmdk,
    size,
    backing: backing === undefined ? undefined : { name: backing, format: 'vmdk', open: true },
    values: new OptionValues(new Map(Object.entries(options))),
    references: { follow: true, allowed: [] },
    formats,
    warn: () => {},
    progress: () => {},
  });
}

/** Makes a streamOptimized disk with imgfs and fills it. */
export function makeStream(file: string, size: number, fill: (image: Image) => void, backing?: string): void {
  const target = new FilledImage({
    path: file,
    format: vmdk,
    size,
    backing: backing === undefined ? undefined : { name: backing, format: 'vmdk', open: true },
    values: new OptionValues(new Map([['subformat', 'streamOptimized']])),
    references: { follow: true, allowed: [] },
    formats,
    warn: () => {},
  });
  try {
    fill(target.image);
  } catch (error) {
    target.discard();
    throw error;
  }
  target.appear();
}

export function openToWrite(file: string, writableReferences = false): OpenedImage {
  return openImage(file, {
    formats,
    references: { follow: true, allowed: [] },
    forceShare: false,
    write: { references: writableReferences, direct: false, unsafe: false, threads: false },
    warn: () => {},
  });
}

/** Where to write so that it matters: at the edges of grains, tables and extents. */
function place(size: number, random: Random): readonly [at: number, length: number] {
  const edges = [0, 65_536, 32 * MIB, 2048 * MIB, size].filter((edge) => edge <= size);
  const near = random.pick(edges) + (random.below(400) - 200) * 512;
  const at = Math.max(0, Math.min(size - 512, near));
  return [at, Math.min(size - at, (1 + random.below(random.below(3) === 0 ? 900 : 30)) * 512)];
}

/** Random writes and zeros by qemu-io. */
export function scribbleWithQemu(file: string, size: number, random: Random): void {
  const commands = Array.from({ length: 30 }, () => {
    const [at, length] = place(size, random);
    if (random.below(5) === 0) return `write -z ${at} ${length}`;
    return `write -P ${1 + random.below(250)} ${at} ${length}`;
  });
  qemuIo(file, commands, AS_VMDK);
}

/** Random writes, zeros and discards by us, and what each part of the disk then is, in order. */
export function scribble(image: Image, random: Random): void {
  for (let n = 0; n < 60; n++) {
    const [at, length] = place(image.size, random);
    const how = random.below(8);
    if (how === 0) image.zero(at, length, { unmap: false });
    else if (how === 1) image.zero(at, length, { unmap: true });
    else image.write(random.bytes(length), at);
    if (how === 2) image.flush();
    if (how === 3) image.publish();
  }
}

/** What imgfs check finds: nothing, or this. */
export function findings(file: string): readonly string[] {
  const told: string[] = [];
  const { report } = drained(
    examineImage(file, {
      formats,
      repair: 'none',
      forceShare: false,
      warn: () => {},
      tell: (line) => told.push(line),
    }),
  );
  if (report === undefined) throw new Error('vmdk images can be checked');
  return told;
}

/** Writes the files of a sample into a directory and returns the path of the image. */
export function putFiles(directory: string, files: readonly { name: string; bytes(): Uint8Array }[]): string {
  for (const { name, bytes } of files) fs.writeFileSync(path.join(directory, name), bytes());
  return path.join(directory, files[0]?.name ?? '');
}
