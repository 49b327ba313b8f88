/** What `imgfs info --json` and the mount's info.json say of a container. Opens none of its disks. */
import { printable } from '../lib/errors.js';
import { sizeText } from '../lib/size-text.js';
import { FileStorage } from '../storage/file.js';
import type { Json } from './image.js';
import type { OpenedContainer } from './opened-container.js';

export interface ContainerDocument {
  readonly schema: 'imgfs.container/1';
  readonly filename: string;
  readonly format: string;
  readonly 'actual-size': number;
  /** In the order in which they are numbered; what is said of each is the descriptor's word. */
  readonly disks: readonly DiskDocument[];
  readonly 'passed-over'?: readonly PassedOverDocument[];
  readonly [key: string]: Json | undefined;
}

type DiskDocument = {
  readonly number: number;
  readonly file: string;
  readonly format?: string;
  readonly 'virtual-size'?: number;
};
type PassedOverDocument = { readonly name: string; readonly why: string };

/** `manifest` is what is known of the manifest, if anybody has looked. */
export function describeContainer(
  { file, format, container }: OpenedContainer,
  manifest?: { readonly [key: string]: Json },
): ContainerDocument {
  return {
    schema: 'imgfs.container/1',
    filename: file.name,
    format,
    'actual-size': new FileStorage(file).allocated(),
    disks: container.disks.map(({ name, format: declared, capacity }, n) => ({
      number: n + 1,
      file: name,
      ...(declared === undefined ? {} : { format: declared }),
      ...(capacity === undefined ? {} : { 'virtual-size': capacity }),
    })),
    ...(container.passedOver.length === 0
      ? {}
      : { 'passed-over': container.passedOver.map(({ name, why }) => ({ name, why })) }),
    descriptor: container.info,
    ...(manifest === undefined ? {} : { manifest }),
  };
}

/** For people, a line each. */
export function containerText({ filename, format, disks, ...document }: ContainerDocument): string {
  const lines = [
    `container: ${filename}`,
    `file format: ${format}`,
    `disk size: ${sizeText(document['actual-size'])}`,
    ...disks.map(({ number, file, 'virtual-size': size }) => {
      return `disk ${number}: ${file}${size === undefined ? '' : ` (${sizeText(size)}, ${size} bytes)`}`;
    }),
    ...(document['passed-over'] ?? []).map(({ name, why }) => `passed over: ${name} (${why})`),
  ];
  return lines.map((line) => `${printable(line)}\n`).join('');
}
