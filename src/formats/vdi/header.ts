import { checkTable, type Limits } from '../../image/limits.js';
import { join64, roundUp } from '../../lib/bits.js';
import { corrupt, ImgfsError } from '../../lib/errors.js';
import type { Storage } from '../../storage/storage.js';
import {
  ENTRY_BYTES,
  HEADER_SIZE,
  hasSignature,
  MAX_BLOCKS,
  NO_UUID,
  type Places,
  PREHEADER_BYTES,
  placesOf,
  TYPE,
  uuidAt,
  versionOf,
} from './layout.js';

export const SECTOR = 512;

/** QEMU knows only 1 MiB, VirtualBox any power of two. Larger ones would only cost memory where blocks are copied. */
const MAX_BLOCK_SIZE = 256 * 1024 * 1024;
const MAX_BLOCK_EXTRA = 1024 * 1024;

/** A header that passed every check; all sizes and offsets in bytes. */
export interface Header {
  readonly places: Places;
  readonly version: string;
  readonly type: 'dynamic' | 'static' | 'differencing';
  /** Guest bytes. A stored size that is no whole number of sectors counts as the next one, as QEMU has it. */
  readonly size: number;
  readonly blockSize: number;
  /** Bytes in front of each block that are nobody's business. */
  readonly blockExtra: number;
  /** Entries of the map. They cover at least the disk. */
  readonly blocks: number;
  /** Blocks of the file that are taken: indices below it, as far as writers are concerned. */
  readonly allocated: number;
  readonly mapAt: number;
  readonly dataAt: number;
  readonly uuid: string;
  readonly modified: string;
  /** The image below, by its UUID; undefined for none. */
  readonly parent: { readonly uuid: string; readonly modified: string } | undefined;
}

/** Host bytes from one block to the next. */
export function blockStride({ blockSize, blockExtra }: Pick<Header, 'blockSize' | 'blockExtra'>): number {
  return blockSize + blockExtra;
}

/**
 * Reads and validates the header: everything in it that is used later is in range, and the map lies in the file between
 * the header and the data. Throws `corrupt`, `truncated`, `unsupported`, `limit`.
 */
export function readHeader(storage: Storage, limits: Limits): Header {
  const head = Buffer.alloc(SECTOR);
  const got = storage.read(head, 0);
  const header = decodeHeader(head.subarray(0, got), storage.name, limits);
  checkTable(storage, {
    name: 'block map',
    at: header.mapAt,
    entries: header.blocks,
    entryBytes: ENTRY_BYTES,
    maxBytes: MAX_BLOCKS * ENTRY_BYTES,
    alignment: ENTRY_BYTES,
  });
  return header;
}

/** The header in the first bytes of a file (a sector, or all there is), without a look at the rest. */
export function decodeHeader(head: Buffer, name: string, limits: Limits): Header {
  if (head.length < PREHEADER_BYTES) throw truncated(name);
  if (!hasSignature(head)) throw corrupt(`${name}: not a VDI, its signature is missing`);
  const { code, text } = versionOf(head);
  const places = placesOf(code);
  if (places === undefined) throw new ImgfsError('unsupported', `${name}: VDI version ${text}`);
  if (head.length < places.bytes) throw truncated(name);
  const type = typeOf(head.readUInt32LE(places.type), name);
  const geometry = readGeometry(head, places, name, limits);
  const uuid = uuidAt(head, places.uuid);
  const modified = uuidAt(head, places.modified);
  return { places, version: text, type, ...geometry, uuid, modified, parent: parentOf(head, places, type, name) };
}

function typeOf(code: number, name: string): Header['type'] {
  if (code === TYPE.dynamic) return 'dynamic';
  if (code === TYPE.static) return 'static';
  if (code === TYPE.differencing) return 'differencing';
  const what = code === TYPE.undo ? 'an undo image, which is no disk of its own' : `of the unknown type ${code}`;
  throw new ImgfsError('unsupported', `${name}: the VDI is ${what}`);
}

type Geometry = Pick<Header, 'size' | 'blockSize' | 'blockExtra' | 'blocks' | 'allocated' | 'mapAt' | 'dataAt'>;

function readGeometry(head: Buffer, places: Places, name: string, limits: Limits): Geometry {
  const field = (at: number | undefined, otherwise: number): number =>
    at === undefined ? otherwise : head.readUInt32LE(at);
  if (field(places.headerSize, HEADER_SIZE.least) < HEADER_SIZE.least)
    throw corrupt(`${name}: the header is too short`);
  const sectorSize = head.readUInt32LE(places.sectorSize);
  if (sectorSize !== SECTOR) throw new ImgfsError('unsupported', `${name}: sectors of ${sectorSize} bytes`);
  const blockSize = head.readUInt32LE(places.blockSize);
  const blockExtra = field(places.blockExtra, 0);
  const blocks = head.readUInt32LE(places.blocks);
  checkBlocks(name, { blockSize, blockExtra, blocks });
  const stored = join64(
    head.readUInt32LE(places.diskSize + 4),
    head.readUInt32LE(places.diskSize),
    `${name}: its size`,
  );
  const size = roundUp(stored, SECTOR);
  if (size > limits.virtualSize) {
    throw new ImgfsError('limit', `${name}: a disk of ${size} bytes, the limit is ${limits.virtualSize}`);
  }
  if (size > blocks * blockSize) throw corrupt(`${name}: ${blocks} blocks cannot hold a disk of ${size} bytes`);
  const mapAt = field(places.mapAt, places.bytes);
  const dataAt = field(places.dataAt, mapAt + blocks * ENTRY_BYTES);
  if (mapAt < places.bytes) throw corrupt(`${name}: the block map lies inside the header`);
  if (dataAt < mapAt + blocks * ENTRY_BYTES) throw corrupt(`${name}: the blocks begin inside the block map`);
  return { size, blockSize, blockExtra, blocks, allocated: head.readUInt32LE(places.allocated), mapAt, dataAt };
}

function checkBlocks(
  name: string,
  { blockSize, blockExtra, blocks }: Pick<Header, 'blockSize' | 'blockExtra' | 'blocks'>,
): void {
  if (blockSize < SECTOR || !isPowerOfTwo(blockSize)) throw corrupt(`${name}: blocks of ${blockSize} bytes`);
  if (blockSize > MAX_BLOCK_SIZE) throw new ImgfsError('limit', `${name}: blocks of ${blockSize} bytes`);
  if (blockExtra !== 0 && !isPowerOfTwo(blockExtra)) throw corrupt(`${name}: ${blockExtra} bytes before each block`);
  if (blockExtra > MAX_BLOCK_EXTRA) throw new ImgfsError('limit', `${name}: ${blockExtra} bytes before each block`);
  if (blocks > MAX_BLOCKS) throw new ImgfsError('limit', `${name}: ${blocks} blocks, the limit is ${MAX_BLOCKS}`);
}

/** Only a differencing image has one. Another type that names one is not understood: its bytes may be wrong without it. */
function parentOf(head: Buffer, places: Places, type: Header['type'], name: string): Header['parent'] {
  const uuid = uuidAt(head, places.link);
  const modified = places.parentModified === undefined ? NO_UUID : uuidAt(head, places.parentModified);
  if (type === 'differencing') {
    if (uuid === NO_UUID) throw corrupt(`${name}: a differencing image that names no parent`);
    return { uuid, modified };
  }
  if (uuid !== NO_UUID) throw new ImgfsError('unsupported', `${name}: a ${type} image that names a parent`);
  return undefined;
}

function isPowerOfTwo(value: number): boolean {
  return Number.isInteger(Math.log2(value));
}

function truncated(name: string): ImgfsError {
  return new ImgfsError('truncated', `${name}: the image ends inside its header`);
}
