/** The images that are measured: one disk in several forms to be read, and new ones to be written. */
import fs from 'node:fs';
import path from 'node:path';
import type { CacheMode } from '../src/mount/options.js';
import type { Exhibit } from './servers.js';
import { run } from './workplace.js';

const MIB = 2 ** 20;
/** Large enough that a run is not over before it has begun; the compressed ones take longer per byte. */
const PLAIN_BYTES = 512 * MIB;
const PACKED_BYTES = 256 * MIB;

export type ImageName = 'plain' | 'zlib' | 'zstd';

/** The images that are read. All are opened for reading. */
export type ReadImages = Readonly<Record<ImageName, Exhibit>>;

/** Builds all of them in `directory`. */
export async function buildReadImages(directory: string): Promise<ReadImages> {
  const raw = path.join(directory, 'disk.raw');
  const short = path.join(directory, 'short.raw');
  writeDisk(raw, PLAIN_BYTES);
  fs.copyFileSync(raw, short);
  fs.truncateSync(short, PACKED_BYTES);
  const packed = (name: ImageName, type: string): Promise<Exhibit> => {
    return convert(short, path.join(directory, `${name}.qcow2`), 'qcow2', '-c', '-o', `compression_type=${type}`);
  };
  return {
    plain: await convert(raw, path.join(directory, 'plain.qcow2'), 'qcow2'),
    zlib: await packed('zlib', 'zlib'),
    zstd: await packed('zstd', 'zstd'),
  };
}

/** The raw file `from` as an image that is to be read. */
export async function convert(
  from: string,
  to: string,
  format: string,
  ...options: readonly string[]
): Promise<Exhibit> {
  await run('qemu-img', ['convert', '-f', 'raw', '-O', format, ...options, from, to]);
  return { path: to, format, raw: from, size: fs.statSync(from).size, access: 'read' };
}

/** An image nothing was written to yet, and an empty raw file beside it. `remove` deletes both. */
export async function emptyImage(
  directory: string,
  format: string,
  size: number,
  access: CacheMode,
): Promise<Exhibit & { remove(): void }> {
  return await newImage(directory, { format, size, access });
}

/** As `emptyImage`, with all its space allocated and zeros written there. */
export async function allocatedImage(
  directory: string,
  format: string,
  size: number,
  access: CacheMode,
): Promise<Exhibit & { remove(): void }> {
  return await newImage(directory, { format, size, access, allocated: true });
}

interface Wanted {
  readonly format: string;
  readonly size: number;
  readonly access: CacheMode;
  readonly allocated?: true;
}

async function newImage(directory: string, wanted: Wanted): Promise<Exhibit & { remove(): void }> {
  const { format, size, access, allocated } = wanted;
  const own = fs.mkdtempSync(path.join(directory, 'image-'));
  const raw = path.join(own, 'plain');
  const image = path.join(own, `image.${format}`);
  const full = allocated === true ? ['-o', 'preallocation=full'] : [];
  await run('qemu-img', ['create', '-q', '-f', 'raw', ...full, raw, String(size)]);
  await run('qemu-img', ['create', '-q', '-f', format, ...full, image, String(size)]);
  // What creating them left to be written must not be waited for by who is measured.
  if (allocated === true) await run('sync', ['-f', own]);
  const remove = (): void => fs.rmSync(own, { recursive: true, force: true });
  return { path: image, format, raw, size, access, remove };
}

/**
 * A disk that compresses as files do, to about a third: words of a vocabulary, common ones often, in an order that
 * never repeats. The same in every run.
 */
export function writeDisk(file: string, size: number): void {
  const random = generator();
  const words = Array.from({ length: 8192 }, () => {
    return Buffer.from(Array.from({ length: 4 + (random() % 28) }, () => random() & 0xff));
  });
  const fd = fs.openSync(file, 'w');
  const block = Buffer.alloc(MIB);
  for (let at = 0; at < size; at += MIB) {
    for (let end = 0; end < MIB; ) {
      const common = random() % 8 === 0 ? words.length : 64;
      end += words[random() % common]!.copy(block, end);
    }
    fs.writeSync(fd, block, 0, MIB, at);
  }
  fs.closeSync(fd);
}

/** xorshift32. */
function generator(): () => number {
  let state = 0x12345678;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return state >>> 0;
  };
}
