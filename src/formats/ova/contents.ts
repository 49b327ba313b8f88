/** From a descriptor and the files that are there to a container. */
import type { ContainedDisk, ContainedFile, Container, Part } from '../../image/container.js';
import type { Json } from '../../image/image.js';
import { corrupt, ImgfsError } from '../../lib/errors.js';
import { type Descriptor, type DiskEntry, type FileReference, formatOfUri, parseDescriptor } from './descriptor.js';

export interface Contents {
  readonly descriptor: { readonly name: string; readonly bytes: Buffer };
  /** Where a file lies; undefined for one that is not there. Sizes are known of what lies in the container itself. */
  readonly find: (name: string) => Part | undefined;
  /** Names of files that are there whatever the descriptor says. */
  readonly others: readonly string[];
  readonly passedOver: Container['passedOver'];
  /** What else is to be told of the container. */
  readonly more: { readonly [key: string]: Json };
}

const MOST_CHUNKS = 4096;

/** Throws what parsing the descriptor throws, and what its chunks cannot be. */
export function containerOf({ descriptor, find, others, passedOver, more }: Contents): Container {
  const parsed = parseDescriptor(descriptor.bytes, descriptor.name);
  const files = new Map<string, ContainedFile>();
  const [manifest, certificate] = ['.mf', '.cert'].map((extension) => {
    const name = descriptor.name.replace(/\.ovf$/i, '') + extension;
    const part = find(name);
    return part && { name, parts: [part] };
  });
  const add = (name: string): void => {
    if (name === manifest?.name || name === certificate?.name) return;
    const part = find(name);
    if (part !== undefined && !files.has(name)) files.set(name, { name, parts: [part] });
  };
  const pieces = new Map(parsed.files.map((file) => [file, namesOf(file, find)]));
  for (const name of [...others, ...[...pieces.values()].flat()]) add(name);
  const disks = parsed.disks.flatMap((entry) => {
    const { file } = entry;
    return file === undefined ? [] : [diskOf(entry, file, pieces.get(file) ?? [], find, descriptor.name)];
  });
  return {
    disks: disks.filter((disk, n) => disks.findIndex(({ name }) => name === disk.name) === n),
    files: [...files.values()],
    descriptor,
    manifest,
    certificate,
    passedOver,
    info: { ...more, ...tell(parsed) },
  };
}

/** The files that a reference stands for: itself, or its chunks as far as they are there. */
function namesOf({ href, chunkSize, size }: FileReference, find: Contents['find']): readonly string[] {
  if (chunkSize === undefined) return [href];
  const chunk = (n: number): string => `${href}.${String(n).padStart(9, '0')}`;
  const count = size === undefined ? undefined : Math.max(1, Math.ceil(size / chunkSize));
  if (count !== undefined && count > MOST_CHUNKS) {
    throw new ImgfsError('limit', `"${href}" is cut into more than ${MOST_CHUNKS} files`);
  }
  if (count === undefined && find(chunk(0))?.reference !== undefined) {
    throw new ImgfsError('unsupported', `"${href}" is cut into chunks, and its size is not given`);
  }
  const names: string[] = [];
  for (let n = 0; n < (count ?? MOST_CHUNKS); n++) {
    if (count === undefined && find(chunk(n)) === undefined) break;
    names.push(chunk(n));
  }
  return names;
}

function diskOf(
  entry: DiskEntry,
  { href, packed, chunkSize }: FileReference,
  names: readonly string[],
  find: Contents['find'],
  descriptor: string,
): ContainedDisk {
  const parts = names.flatMap((name, n) => {
    const part = find(name);
    const whole = chunkSize !== undefined && n < names.length - 1;
    if (whole && part !== undefined && part.reference === undefined && part.length !== chunkSize) {
      throw corrupt(`${descriptor}: "${name}" has ${part.length} bytes, not ${chunkSize} as every chunk but the last`);
    }
    return part ?? [];
  });
  const missing = names.length === 0 ? href : names.find((name) => find(name) === undefined);
  return { name: href, parts, packed, missing, capacity: entry.capacity, format: formatOfUri(entry.formatUri) };
}

function tell({ disks, files, systems, systemTypes }: Descriptor): { readonly [key: string]: Json } {
  return {
    systems: systems.map(({ id, name }) => ({ id, ...(name === undefined ? {} : { name }) })),
    'system-types': systemTypes.map(({ value }) => value),
    disks: disks.map(({ id, file, capacity, populated, formatUri }) => ({
      id,
      ...(file === undefined ? {} : { file: file.href }),
      ...(file?.packed === undefined ? {} : { compression: file.packed }),
      ...(file?.chunkSize === undefined ? {} : { 'chunk-size': file.chunkSize }),
      ...(capacity === undefined ? {} : { 'virtual-size': capacity }),
      ...(populated === undefined ? {} : { 'populated-size': populated }),
      'format-uri': formatUri,
    })),
    references: files.map(({ href, size }) => ({ file: href, ...(size === undefined ? {} : { size }) })),
  };
}
