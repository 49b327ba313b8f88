/** Images that workloads begin with. Their bytes are made when a workload runs. */
import type { SampleImage, SampleOptions } from '../../src/formats/qcow2/samples/image.js';
import { SampleImage as Recipe } from '../../src/formats/qcow2/samples/image.js';
import type { SampleFile } from '../../src/image/samples.js';
import { stamped } from './operations.js';

/** Stamps of what was there before, so that it is told from what a workload writes. */
export const BEFORE = 0xbef0_0000;
export const BASE = 0xba5e_0000;

/** A raw disk full of bytes. */
export function rawStart(size: number): readonly SampleFile[] {
  return [{ name: 'disk.raw', role: 'image', bytes: () => stamped(BEFORE, 0, size) }];
}

export interface Start {
  readonly options: SampleOptions;
  /** Makes the content; nothing for an empty disk. */
  readonly fill?: (image: SampleImage) => void;
  /** Changes the finished bytes. */
  readonly afterwards?: (bytes: Buffer) => Uint8Array;
  /** Bytes of the raw backing file, where the options name one. */
  readonly baseBytes?: number;
}

/** A qcow2 image, with its backing file or its data file. */
export function qcow2Start({ options, fill, afterwards, baseBytes }: Start): readonly SampleFile[] {
  const recipe = (): Recipe => {
    const image = new Recipe(options);
    fill?.(image);
    return image;
  };
  const bytes = (): Uint8Array => {
    const built = recipe().build();
    return afterwards === undefined ? built : afterwards(Buffer.from(built));
  };
  const files: SampleFile[] = [{ name: 'disk.qcow2', role: 'image', bytes }];
  const { backing, dataFile } = options;
  if (backing !== undefined) {
    files.push({
      name: backing.name,
      role: 'base',
      format: 'raw',
      bytes: () => stamped(BASE, 0, baseBytes ?? options.size),
    });
  }
  if (dataFile !== undefined) {
    files.push({ name: dataFile.name, role: 'part', bytes: () => recipe().buildDataFile() });
  }
  return files;
}

/** Clusters `from` to `to - 1` full of bytes. */
export function data(image: SampleImage, from: number, to: number, stamp = BEFORE): void {
  const unit = image.clusterSize;
  image.write(from * unit, stamped(stamp, from * unit, (to - from) * unit));
}

/** Clusters stored compressed; bytes that compress well. */
export function packed(image: SampleImage, from: number, to: number): void {
  const unit = image.clusterSize;
  for (let n = from; n < to; n++) {
    const bytes = new Uint8Array(unit);
    for (let at = 0; at < unit; at += 512) bytes.fill(1 + ((n * 31 + at / 512) % 255), at, at + 512);
    image.pack(n * unit, bytes);
  }
}

export const RAW_BASE = { name: 'base.raw', format: 'raw' } as const;

/**
 * As a writer that counts lazily leaves an image of 16-bit refcounts when it dies: clusters in use count as free, or as
 * used more often than they are, and others that nobody uses count too. `blocks` are refcount blocks that it has lost.
 */
export function countedLazily(image: Buffer, blocks: readonly number[] = []): Uint8Array {
  const clusterSize = 2 ** image.readUInt32BE(20);
  const lost = Buffer.alloc(3 * clusterSize, 0xee);
  const tableAt = Number(image.readBigUInt64BE(48));
  const clusters = Math.ceil(image.length / clusterSize);
  const bytes = Buffer.concat([image, Buffer.alloc(clusters * clusterSize - image.length), lost]);
  for (let n = 0; n < clusters + 3; n++) {
    const block = Number(bytes.readBigUInt64BE(tableAt + Math.floor((n * 2) / clusterSize) * 8));
    const at = block + ((n * 2) % clusterSize);
    if (n >= clusters) bytes.writeUInt16BE(1, at);
    else if (n % 3 === 0) bytes.writeUInt16BE(0, at);
    else if (n % 5 === 0) bytes.writeUInt16BE(bytes.readUInt16BE(at) + 1, at);
  }
  for (const n of blocks) bytes.writeBigUInt64BE(0n, tableAt + n * 8);
  return bytes;
}
