/** Whether the files of an appliance are what its manifest says, and what its descriptor says of their sizes. */
import { createHash } from 'node:crypto';
import type { ManifestLine } from '../formats/ova/manifest.js';
import type { OpenedContainer } from '../image/opened-container.js';
import { errorLine, ImgfsError } from '../lib/errors.js';
import { Appliance, digestOf, piecesOf, sizesOf } from './appliance.js';

export interface Verification {
  /** The manifest's name; undefined without one: then nothing could be verified. */
  readonly manifest: string | undefined;
  /** A certificate is there. Nobody has checked it. */
  readonly certificate: string | undefined;
  /** Files that are what the manifest says. */
  readonly verified: readonly string[];
  /** What is wrong, one line each. */
  readonly problems: readonly string[];
}

/**
 * Reads every file that the manifest names. Yields, often, how far it has come, from 0 to 1. What cannot be opened or
 * read is a problem like others; throws only where the manifest itself cannot be read.
 */
export function* verify(opened: OpenedContainer): Generator<number, Verification> {
  const appliance = new Appliance(opened);
  const { manifest, descriptor, files } = appliance;
  const verified: string[] = [];
  const problems = [...sizeProblems(appliance), ...diskProblems(appliance)];
  const named = new Map(manifest?.lines.map((line) => [line.name, line]));
  const own = named.get(descriptor.name);
  if (own !== undefined) {
    if (digestOf(own.digest, descriptor.bytes) === own.hex) verified.push(descriptor.name);
    else problems.push(wrong(own));
  }
  const sizes = sizesOf(appliance, () => true);
  const needed = files.filter(({ name }) => named.has(name));
  const whole = needed.reduce((sum, { name }) => sum + (sizes.get(name) ?? 0), 0);
  let done = 0;
  for (const file of needed) {
    const line = named.get(file.name) as ManifestLine;
    const digest = createHash(line.digest);
    try {
      const storage = opened.openFile(file);
      try {
        for (const piece of piecesOf(storage)) {
          digest.update(piece);
          done += piece.length;
          yield done / whole;
        }
      } finally {
        storage.close();
      }
      if (digest.digest('hex') === line.hex) verified.push(file.name);
      else problems.push(wrong(line));
    } catch (error) {
      if (!(error instanceof ImgfsError)) throw error;
      problems.push(error.reason === 'missing' ? `"${file.name}" is missing` : errorLine(error).replace('imgfs: ', ''));
    }
  }
  const there = new Set([descriptor.name, ...files.map(({ name }) => name)]);
  for (const { name } of named.values()) if (!there.has(name)) problems.push(`"${name}" is missing`);
  if (manifest !== undefined) {
    for (const name of there) if (!named.has(name)) problems.push(`"${name}" is not in the manifest`);
  }
  return {
    manifest: manifest?.name,
    certificate: appliance.certificate?.name,
    verified,
    problems: [...new Set(problems)],
  };
}

function wrong({ name, digest }: ManifestLine): string {
  return `"${name}" is not what the manifest says: its ${digest} differs`;
}

/** Files whose size is not the one that the descriptor has, and disks that claim more data than they have room for. */
export function* sizeProblems({ opened, descriptor, files }: Appliance): Generator<string> {
  for (const { href, size, chunkSize } of descriptor.parsed.files) {
    const own = files.filter(({ name }) =>
      chunkSize === undefined
        ? name === href
        : name.startsWith(`${href}.`) && /^\d{9}$/.test(name.slice(href.length + 1)),
    );
    if (own.length === 0) yield `"${href}" is missing`;
    if (own.length === 0) continue;
    try {
      const found = own.reduce((sum, file) => sum + sizeOf(opened, file), 0);
      if (size !== undefined && found !== size) yield `"${href}" has ${found} bytes, the descriptor says ${size}`;
    } catch (error) {
      if (!(error instanceof ImgfsError)) throw error;
      yield error.reason === 'missing' ? `"${href}" is missing` : errorLine(error).replace('imgfs: ', '');
    }
  }
  for (const { id, capacity, populated } of descriptor.parsed.disks) {
    if (capacity === undefined || populated === undefined || populated <= capacity) continue;
    yield `the disk "${id}" claims ${populated} bytes of data, and has ${capacity}`;
  }
}

/** Disks that cannot be opened, or have another size than the descriptor says. */
function* diskProblems({ opened, descriptor }: Appliance): Generator<string> {
  for (const [n, { name, missing }] of opened.container.disks.entries()) {
    if (missing !== undefined) continue;
    const entry = descriptor.parsed.disks.find(({ file }) => file?.href === name);
    try {
      const { image } = opened.openDisk(n + 1);
      const { size } = image;
      image.close();
      if (entry?.capacity === undefined || entry.capacity === size) continue;
      yield `the disk "${entry.id}" has ${size} bytes, the descriptor says ${entry.capacity}`;
    } catch (error) {
      if (!(error instanceof ImgfsError)) throw error;
      if (error.reason !== 'missing') yield errorLine(error).replace('imgfs: ', '');
    }
  }
}

function sizeOf(opened: OpenedContainer, file: Appliance['files'][number]): number {
  const storage = opened.openFile(file);
  try {
    return storage.size();
  } finally {
    storage.close();
  }
}
