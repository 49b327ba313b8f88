import type { BrokenSample, FieldPlace, GoodSample, SampleFile, Specimen } from '../../../image/samples.js';
import { CURRENT, ENTRY_BYTES, MAX_BLOCKS, OLD, type Places, uuidAt } from '../layout.js';
import { build, pattern, placesOf, type SampleOptions, sampleUuid, shown } from './build.js';

const KIB = 1024;
const MIB = 1024 * KIB;
const BLOCK = 4 * KIB;

/** The numbers of the UUIDs of the parents in chains. */
const PARENT = { uuid: 71, modified: 72 };
const MIDDLE = { uuid: 73, modified: 74 };

/** Blocks out of order, some discarded, some never written. */
const SHUFFLED = [5, 'free', 0, 1, 'zero', 7, 2, 'free', 6, 3, 4, 'zero'] as const;

const shuffled: SampleOptions = { size: SHUFFLED.length * BLOCK - 1536, blockSize: BLOCK, entries: SHUFFLED };

/** What a sample shows of itself; all of them hold the same pattern at the same place. */
function bytesOf(options: SampleOptions, seed = 1): Buffer {
  return build(options, pattern(options.entries.length * options.blockSize, seed));
}

function diskOf(options: SampleOptions, seed = 1, below?: Uint8Array): Buffer {
  return shown(options, pattern(options.entries.length * options.blockSize, seed), below);
}

const parent: SampleOptions = { ...shuffled, ...PARENT, entries: [0, 1, 2, 3, 'free', 'zero', 4, 5, 6, 'free', 7, 8] };
const middle: SampleOptions = {
  ...shuffled,
  ...MIDDLE,
  type: 'differencing',
  link: PARENT.uuid,
  parentModified: PARENT.modified,
  entries: ['free', 0, 'free', 'zero', 'free', 1, 'free', 'free', 2, 'free', 'free', 'free'],
};
const top: SampleOptions = {
  ...shuffled,
  type: 'differencing',
  link: MIDDLE.uuid,
  parentModified: MIDDLE.modified,
  entries: ['free', 'free', 'zero', 'free', 1, 'free', 'free', 'free', 'free', 'free', 0, 'free'],
};

/** A VDI that others name by its UUID: among the files of a sample that is its name. */
export function named(uuid: number, bytes: () => Uint8Array): SampleFile {
  return { name: uuidAt(sampleUuid(uuid), 0), role: 'base', format: 'vdi', bytes };
}

const chain = [named(MIDDLE.uuid, () => bytesOf(middle, 3)), named(PARENT.uuid, () => bytesOf(parent, 2))] as const;

/** Images that must open. */
export function goodSamples(): readonly GoodSample[] {
  const good = (name: string, options: SampleOptions): GoodSample => ({
    name,
    image: bytesOf(options),
    disk: diskOf(options),
    snapshots: [],
  });
  const below = diskOf(parent, 2);
  const between = diskOf(middle, 3, below);
  return [
    good('blocks of 4 KiB, shuffled', shuffled),
    good('blocks of 1 MiB', { size: 3 * MIB - 512, blockSize: MIB, entries: [1, 'free', 0] }),
    good('bytes in front of each block', { ...shuffled, blockExtra: 512 }),
    good('a size that is no whole number of sectors', { ...shuffled, size: shuffled.size - 100 }),
    good('static', { ...shuffled, type: 'static', entries: SHUFFLED.map((_, n) => n) }),
    good('of the first version', { ...shuffled, old: true }),
    good('a map far from its header and its blocks', { ...shuffled, mapAt: 5120, dataAt: 8 * KIB }),
    good('a counter that is too high, entries behind the disk', { ...shuffled, size: 6 * BLOCK, allocated: 11 }),
    good('a file that ends before its last block does', { ...shuffled, short: true }),
    good('blocks of 512 bytes', { ...shuffled, size: 12 * 512, blockSize: 512 }),
    { name: 'differencing', image: bytesOf(middle, 3), beside: chain.slice(1), disk: between, snapshots: [] },
    { name: 'a chain of three', image: bytesOf(top), beside: chain, disk: diskOf(top, 1, between), snapshots: [] },
  ];
}

/** Images that must be refused. */
export function brokenSamples(): readonly BrokenSample[] {
  const image = (options: SampleOptions, ...puts: readonly (readonly [at: number, value: number])[]): Buffer => {
    const bytes = bytesOf(options);
    for (const [at, value] of puts) bytes.writeUInt32LE(value, at);
    return bytes;
  };
  const at = CURRENT;
  const broken = (
    name: string,
    fails: 'open' | 'read',
    reason: BrokenSample['reason'],
    bytes: Buffer,
  ): BrokenSample => ({
    name,
    image: bytes,
    fails,
    reason,
  });
  const open = (name: string, reason: BrokenSample['reason'], bytes: Buffer) => broken(name, 'open', reason, bytes);
  return [
    open('an undo image', 'unsupported', image({ ...shuffled, type: 'undo' })),
    open('an unknown type', 'unsupported', image(shuffled, [at.type, 9])),
    open('a version to come', 'unsupported', image(shuffled, [68, 2 * MIB])),
    open('a signature that is missing', 'corrupt', image(shuffled, [64, 0])),
    open('blocks of no bytes', 'corrupt', image(shuffled, [at.blockSize, 0])),
    open('blocks of 5000 bytes', 'corrupt', image(shuffled, [at.blockSize, 5000])),
    open('blocks of 1 GiB', 'limit', image(shuffled, [at.blockSize, KIB * MIB])),
    open('3 bytes in front of each block', 'corrupt', image(shuffled, [at.blockExtra, 3])),
    open('sectors of 4 KiB', 'unsupported', image(shuffled, [at.sectorSize, 4096])),
    open('a header shorter than itself', 'corrupt', image(shuffled, [at.headerSize, 16])),
    open('a disk larger than its blocks', 'corrupt', image(shuffled, [at.diskSize, MIB])),
    open('a size past 2^53', 'corrupt', image(shuffled, [at.diskSize + 4, MIB * KIB])),
    open('more blocks than any image has', 'limit', image(shuffled, [at.blocks, MAX_BLOCKS + 1])),
    open('a map that the file does not hold', 'truncated', image(shuffled, [at.blocks, MIB], [at.dataAt, 16 * MIB])),
    open('a map inside the header', 'corrupt', image(shuffled, [at.mapAt, 100])),
    open('blocks inside the map', 'corrupt', image(shuffled, [at.dataAt, 516])),
    open('a differencing image without a parent', 'corrupt', image({ ...shuffled, type: 'differencing' })),
    open('a dynamic image with a parent', 'unsupported', image({ ...shuffled, link: 5 })),
    broken('an entry that leads nowhere', 'read', 'corrupt', image(shuffled, [512, 1000])),
  ];
}

/** Images with all their fields. */
export function specimens(): readonly Specimen[] {
  const specimen = (name: string, options: SampleOptions, notForQemu?: string): Specimen => ({
    name,
    image: bytesOf(options),
    disk: diskOf(options),
    fields: fieldsOf(options),
    ...(notForQemu === undefined ? {} : { notForQemu }),
  });
  const own = 'QEMU reads only blocks of 1 MiB';
  const sparse: SampleOptions = { size: 3 * MIB - 512, blockSize: MIB, entries: ['zero', 0, 'free'], short: true };
  const some = Buffer.alloc(3 * MIB).fill(pattern(2 * KIB, 1), MIB, MIB + 2 * KIB);
  return [
    {
      name: 'blocks of 1 MiB',
      image: build(sparse, some),
      disk: shown(sparse, some),
      fields: fieldsOf(sparse),
      misreadByQemu: (mutant) =>
        Buffer.from(mutant).readUInt32LE(CURRENT.blockExtra) === 0
          ? undefined
          : 'QEMU knows nothing of bytes in front of the blocks of a VDI, and reads wrong ones',
    },
    specimen('shuffled, with bytes in front of blocks', { ...shuffled, blockExtra: 512 }, own),
    specimen('of the first version', { ...shuffled, old: true }, 'QEMU reads only version 1.1'),
    {
      name: 'differencing',
      image: bytesOf(middle, 3),
      beside: chain.slice(1),
      disk: diskOf(middle, 3, diskOf(parent, 2)),
      fields: fieldsOf(middle).filter(({ name }) => !/link|parentModified|type/.test(name)),
      notForQemu: 'QEMU reads no differencing images',
    },
  ];
}

function fieldsOf(options: SampleOptions): readonly FieldPlace[] {
  const places: Places = options.old === true ? OLD : CURRENT;
  const untouched = { touches: { start: 0, length: 0 } };
  const field = (name: string, at: number | undefined, bytes: 4 | 8, more: object = {}): readonly FieldPlace[] =>
    at === undefined ? [] : [{ name, at, bytes, littleEndian: true, ...more }];
  const { blockSize } = options;
  return [
    ...field('magic', 64, 4),
    ...field('version', 68, 4),
    ...field('headerSize', places.headerSize, 4, untouched),
    ...field('type', places.type, 4, untouched),
    ...field('flags', places.flags, 4, untouched),
    ...field('mapAt', places.mapAt, 4),
    ...field('dataAt', places.dataAt, 4),
    ...field('sectorSize', places.sectorSize, 4, untouched),
    ...field('diskSize', places.diskSize, 8),
    ...field('blockSize', places.blockSize, 4),
    ...field('blockExtra', places.blockExtra, 4),
    // In the first version the place of the blocks follows from it.
    ...field('blocks', places.blocks, 4, options.old === true ? {} : untouched),
    ...field('allocated', places.allocated, 4, untouched),
    ...field('uuid', places.uuid, 8, untouched),
    ...field('modified', places.modified, 8, untouched),
    ...field('link', places.link, 8, untouched),
    ...field('parentModified', places.parentModified, 8, untouched),
    ...options.entries.flatMap((_, n) =>
      field(`entry ${n}`, placesOf(options).mapAt + n * ENTRY_BYTES, 4, {
        touches: { start: n * blockSize, length: blockSize },
      }),
    ),
  ];
}
