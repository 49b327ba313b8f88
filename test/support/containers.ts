/** Containers of the registry, what they offer to suites, and their disks as stored bytes. */
import { formats } from '../../src/formats/index.js';
import { samples } from '../../src/formats/ova/samples.js';
import type { ContainedFile } from '../../src/image/container.js';
import type { ContainerFormat } from '../../src/image/format.js';
import type { ContainerSamples } from '../../src/image/samples.js';
import { MemoryStorage } from '../../src/storage/memory.js';

export const containerFormats: readonly ContainerFormat[] = formats.filter((format) => format.kind === 'container');

/** By the name of the format; a bare descriptor is told by its mounts, for all its disks are other files. */
export const containerSamples: ReadonlyMap<string, ContainerSamples> = new Map([['ova', samples]]);

export function containerStorage(fileName: string, bytes: Uint8Array): MemoryStorage {
  return MemoryStorage.from(bytes, fileName);
}

/** The bytes of a file that lies in its container. */
export function bytesOf({ parts }: ContainedFile, container: Uint8Array): Buffer {
  return Buffer.concat(
    parts.map((part) => {
      if (part.reference !== undefined) throw new Error(`${part.reference.name} is another file`);
      return container.subarray(part.at, part.at + part.length);
    }),
  );
}
