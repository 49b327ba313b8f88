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
  /** Bytes of the raw backing file, where the options name one. */
  readonly baseBytes?: number;
}

/** A qcow2 image, with its backing file or its data file. */
export function qcow2Start({ options, fill, baseBytes }: Start): readonly SampleFile[] {
  const recipe = (): Recipe => {
    const image = new Recipe(options);
    fill?.(image);
    return image;
  };
  const files: SampleFile[] = [{ name: 'disk.qcow2', role: 'image', bytes: () => recipe().build() }];
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
