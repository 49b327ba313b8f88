/** Images built field by field, as no writer would leave them all: shuffled, with gaps, of every version. */

import { MemoryStorage } from '../../../storage/memory.js';
import { readPadded } from '../../../storage/storage.js';
import { encodeHeader, encodeOldHeader } from '../encode.js';
import { ENTRY, ENTRY_BYTES, OLD, TYPE, UUID_BYTES } from '../layout.js';

/** Where a guest block is: in that block of the file, nowhere, or discarded. */
export type Entry = number | 'free' | 'zero';

export interface SampleOptions {
  /** As stored, perhaps no whole number of sectors. */
  readonly size: number;
  readonly blockSize: number;
  readonly blockExtra?: number;
  readonly type?: keyof typeof TYPE;
  /** Of the first version. */
  readonly old?: true;
  readonly mapAt?: number;
  /** Where the blocks begin; right behind the map, at a whole sector, unless told. */
  readonly dataAt?: number;
  readonly entries: readonly Entry[];
  /** The counter, where it is not what it should be. */
  readonly allocated?: number;
  /** Numbers that the UUIDs are made of. */
  readonly uuid?: number;
  readonly modified?: number;
  readonly link?: number;
  readonly parentModified?: number;
  /** Whether the file ends with the last byte that is not zero. */
  readonly short?: true;
}

const SECTOR = 512;

/** The image that shows `disk` (whole blocks are taken from it, zeros past its end) where its entries lead to blocks. */
export function build(options: SampleOptions, disk: Uint8Array): Buffer {
  const { size, blockSize, blockExtra = 0, type = 'dynamic', entries } = options;
  const indices = entries.filter((entry) => typeof entry === 'number');
  const counted = Math.max(0, ...indices.map((index) => index + 1));
  const { mapAt, dataAt } = placesOf(options);
  const fields = {
    type: TYPE[type],
    size,
    blockSize,
    blockExtra,
    blocks: entries.length,
    allocated: options.allocated ?? counted,
    mapAt,
    dataAt,
    uuid: sampleUuid(options.uuid ?? 1),
    modified: sampleUuid(options.modified ?? 2),
    link: sampleUuid(options.link ?? 0),
    parentModified: sampleUuid(options.parentModified ?? 0),
  };
  const stride = blockSize + blockExtra;
  const image = new MemoryStorage('sample', dataAt + counted * stride);
  image.write(options.old === true ? encodeOldHeader(fields) : encodeHeader(fields), 0);
  const guest = MemoryStorage.from(disk);
  for (const [n, entry] of entries.entries()) {
    const stored = Buffer.alloc(ENTRY_BYTES);
    stored.writeUInt32LE(typeof entry === 'number' ? entry : ENTRY[entry]);
    image.write(stored, mapAt + n * ENTRY_BYTES);
    if (typeof entry !== 'number') continue;
    const bytes = new Uint8Array(blockSize);
    readPadded(guest, bytes, n * blockSize);
    image.write(bytes, dataAt + entry * stride + blockExtra);
    // What lies in front of a block is not the guest's, and must never be seen.
    image.write(new Uint8Array(blockExtra).fill(n + 1), dataAt + entry * stride);
  }
  const bytes = Buffer.alloc(image.size());
  image.read(bytes, 0);
  return options.short === true ? withoutZeros(bytes, dataAt) : bytes;
}

/** Where map and blocks of such an image begin. */
export function placesOf({ old, mapAt, dataAt, entries }: SampleOptions): {
  readonly mapAt: number;
  readonly dataAt: number;
} {
  const map = old === true ? OLD.bytes : (mapAt ?? SECTOR);
  const end = map + entries.length * ENTRY_BYTES;
  return { mapAt: map, dataAt: old === true ? end : (dataAt ?? Math.ceil(end / SECTOR) * SECTOR) };
}

/** A UUID that is not random; of 0, none. */
export function sampleUuid(n: number): Buffer {
  const uuid = Buffer.alloc(UUID_BYTES);
  if (n > 0) uuid.fill('imgfs', 4).writeUInt32LE(n, 0);
  return uuid;
}

/** Bytes in which every sector differs from all others, of a disk and of other disks; some are zeros. */
export function pattern(size: number, seed: number): Buffer {
  const bytes = Buffer.alloc(size);
  for (let at = 0; at + 8 <= size; at += 8) {
    bytes.writeUInt32LE(seed, at);
    bytes.writeUInt32LE(at / 8 + 1, at + 4);
  }
  return bytes;
}

/** What the guest sees of an image without a parent: the disk where it is stored, zeros elsewhere. */
export function shown({ size, blockSize, entries }: SampleOptions, disk: Uint8Array, below?: Uint8Array): Buffer {
  const whole = Math.ceil(size / SECTOR) * SECTOR;
  const bytes = Buffer.alloc(whole);
  for (const [n, entry] of entries.entries()) {
    const source = typeof entry === 'number' ? disk : entry === 'free' ? below : undefined;
    const end = Math.min(whole, (n + 1) * blockSize);
    if (source !== undefined && n * blockSize < end) bytes.set(source.subarray(n * blockSize, end), n * blockSize);
  }
  return bytes;
}

function withoutZeros(bytes: Buffer, least: number): Buffer {
  let end = bytes.length;
  while (end > least && bytes[end - 1] === 0) end--;
  return bytes.subarray(0, end);
}
