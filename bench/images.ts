/** The images that are measured: the same disk as a raw file, as qcow2, and compressed with zlib and zstd. */
import fs from 'node:fs';
import path from 'node:path';
import { run } from './workplace.js';

const MIB = 2 ** 20;
/** Large enough that a run is not over before it has begun; the compressed ones take longer per byte. */
const PLAIN_BYTES = 512 * MIB;
const PACKED_BYTES = 256 * MIB;

export type ImageName = 'plain' | 'zlib' | 'zstd';

export interface BenchImage {
  readonly path: string;
  /** The same bytes as a raw file. */
  readonly raw: string;
  readonly size: number;
}

export type BenchImages = Readonly<Record<ImageName, BenchImage>>;

/** Builds all of them in `directory`. */
export async function buildImages(directory: string): Promise<BenchImages> {
  const raw = path.join(directory, 'disk.raw');
  const short = path.join(directory, 'short.raw');
  writeDisk(raw, PLAIN_BYTES);
  fs.copyFileSync(raw, short);
  fs.truncateSync(short, PACKED_BYTES);
  const convert = async (name: ImageName, from: string, size: number, ...options: string[]): Promise<BenchImage> => {
    const to = path.join(directory, `${name}.qcow2`);
    await run('qemu-img', ['convert', '-f', 'raw', '-O', 'qcow2', ...options, from, to]);
    return { path: to, raw: from, size };
  };
  return {
    plain: await convert('plain', raw, PLAIN_BYTES),
    zlib: await convert('zlib', short, PACKED_BYTES, '-c', '-o', 'compression_type=zlib'),
    zstd: await convert('zstd', short, PACKED_BYTES, '-c', '-o', 'compression_type=zstd'),
  };
}

/**
 * A disk that compresses as files do, to about a third: words of a vocabulary, common ones often, in an order that
 * never repeats. The same in every run.
 */
function writeDisk(file: string, size: number): void {
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
