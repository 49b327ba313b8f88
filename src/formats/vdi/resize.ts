import { roundUp } from '../../lib/bits.js';
import { ImgfsError } from '../../lib/errors.js';
import { drained } from '../../lib/steps.js';
import { hostOf, isBlock } from './block-map.js';
import { compact, copyBlocks, type Move } from './compact.js';
import type { FreeBlocks } from './free-blocks.js';
import { blockStride, type Header, SECTOR } from './header.js';
import { ENTRY, ENTRY_BYTES, MAX_BLOCKS } from './layout.js';
import type { Volume } from './volume.js';

/** Entries of a new map that are written at once. */
const CHUNK = 16_384;

/** Offsets in the header have 32 bits. */
const MAX_OFFSET = 2 ** 32 - 1;

/**
 * Makes the map long enough for a disk of `size` bytes: where there is room behind it, by making entries of what lies
 * there; otherwise a new map takes the place of the first blocks, which move to the end of the file. Either comes into
 * being by one write of the header. A static image gets its new blocks with it.
 */
export function grow(volume: Volume, free: FreeBlocks, size: number): void {
  const { header, storage } = volume;
  const blocks = Math.ceil(roundUp(size, SECTOR) / header.blockSize);
  emptyBehind(volume, Math.min(blocks, header.blocks));
  if (blocks <= header.blocks) return;
  if (blocks > MAX_BLOCKS)
    throw new ImgfsError('limit', `${storage.name}: ${blocks} blocks, the limit is ${MAX_BLOCKS}`);
  if (header.places.mapAt === undefined) {
    throw new ImgfsError('unsupported', `${storage.name}: VDI version ${header.version} cannot become larger`);
  }
  const room = (header.dataAt - header.mapAt) / ENTRY_BYTES;
  if (blocks > room) moveMap(volume, free, blocks);
  else extendMap(volume, free, blocks);
}

/** Blocks that are stored behind the end of the disk are about to belong to it: they become holes of the file. */
function emptyBehind(volume: Volume, end: number): void {
  const { header, storage } = volume;
  for (let n = Math.ceil(header.size / header.blockSize); n < end; ) {
    const { host, blocks } = volume.map.find(n, end - n);
    if (typeof host === 'number') storage.discard(host, blocks * header.blockSize);
    n += blocks;
  }
}

function extendMap(volume: Volume, free: FreeBlocks, blocks: number): void {
  const { header, storage } = volume;
  const allocated = settledCounter(volume, free);
  for (let n = header.blocks; n < blocks; n += CHUNK) {
    const count = Math.min(CHUNK, blocks - n);
    storage.write(newEntries(header, allocated, n, count), header.mapAt + n * ENTRY_BYTES);
  }
  adopt(volume, { blocks, allocated: grownCounter(header, allocated, blocks) });
}

/**
 * The blocks that lie where the new map goes are copied behind all others and entered there, in the old map; then the
 * new map is written over them. All other blocks stay where they are, under smaller numbers, as the data begins later.
 */
function moveMap(volume: Volume, free: FreeBlocks, blocks: number): void {
  const stride = blockStride(volume.header);
  const gone = Math.ceil((blocks * ENTRY_BYTES) / stride);
  const { dataAt } = volume.header;
  if (dataAt + gone * stride > MAX_OFFSET || dataAt % ENTRY_BYTES !== 0) {
    throw new ImgfsError('unsupported', `${volume.storage.name}: its block map cannot become longer`);
  }
  makeWay(volume, free, gone);
  const { header, storage } = volume;
  const moved: Header = { ...header, mapAt: dataAt, dataAt: dataAt + gone * stride };
  // Too few blocks to fill the place of the map: those that follow begin behind it all the same.
  const allocated = Math.max(0, header.allocated - gone);
  for (let n = 0; n < header.blocks; ) {
    const entries = Buffer.from(volume.map.entries(n, header.blocks - n));
    for (let at = 0; at < entries.length; at += ENTRY_BYTES) {
      const entry = entries.readUInt32LE(at);
      if (isBlock(entry)) entries.writeUInt32LE(entry - gone, at);
    }
    storage.write(entries, moved.mapAt + n * ENTRY_BYTES);
    n += entries.length / ENTRY_BYTES;
  }
  for (let n = header.blocks; n < blocks; n += CHUNK) {
    const count = Math.min(CHUNK, blocks - n);
    storage.write(newEntries(header, allocated, n, count), moved.mapAt + n * ENTRY_BYTES);
  }
  adopt(volume, {
    blocks,
    allocated: grownCounter(header, allocated, blocks),
    mapAt: moved.mapAt,
    dataAt: moved.dataAt,
  });
}

/** Empties the first `gone` blocks of the file. */
function makeWay(volume: Volume, free: FreeBlocks, gone: number): void {
  const users: Move[] = [];
  let next = settledCounter(volume, free);
  next = Math.max(next, gone);
  for (const [block, entry] of volume.map.all()) {
    if (isBlock(entry) && entry < gone) users.push({ block, from: entry, to: next++ });
  }
  if (next !== volume.header.allocated) {
    volume.change({ allocated: next });
    volume.barrier();
  }
  drained(copyBlocks(volume, users));
}

/** Gives back what was reserved. Whatever happens next, what is free then is looked for. */
function settledCounter(volume: Volume, free: FreeBlocks): number {
  const allocated = free.settled();
  free.forget();
  if (allocated !== volume.header.allocated) volume.change({ allocated });
  return allocated;
}

/** Entries of blocks that did not exist: nothing is stored, or, in a static image, blocks behind all others. */
function newEntries(header: Header, allocated: number, first: number, count: number): Buffer {
  const bytes = Buffer.alloc(count * ENTRY_BYTES);
  for (let n = 0; n < count; n++) {
    const entry = header.type === 'static' ? allocated + first - header.blocks + n : ENTRY.free;
    bytes.writeUInt32LE(entry, n * ENTRY_BYTES);
  }
  return bytes;
}

function grownCounter(header: Header, allocated: number, blocks: number): number {
  return header.type === 'static' ? allocated + blocks - header.blocks : allocated;
}

/**
 * The new map is durable, and so are a static image's new blocks, as zeros (something that failed may have left bytes
 * there), before the header says so.
 */
function adopt(volume: Volume, changes: { blocks: number; allocated: number; mapAt?: number; dataAt?: number }): void {
  const { storage, header } = volume;
  const next = { ...header, ...changes };
  if (header.type === 'static') {
    const end = next.dataAt + next.allocated * blockStride(header);
    const fresh = end - (changes.blocks - header.blocks) * blockStride(header);
    if (storage.size() > fresh) storage.discard(fresh, storage.size() - fresh);
    if (storage.size() < end) storage.resize(end);
  }
  volume.barrier();
  volume.change(changes);
  volume.barrier();
}

/**
 * The size first: what lies behind it is not the disk's any more, whatever happens next. Then the entries behind it are
 * dropped, the blocks that are left are moved together, and map and file become as short as they may be.
 */
export function shrink(volume: Volume, free: FreeBlocks, size: number): void {
  settledCounter(volume, free);
  volume.change({ size: roundUp(size, SECTOR) });
  volume.barrier();
  const { header } = volume;
  const blocks = Math.ceil(header.size / header.blockSize);
  if (blocks === header.blocks) return;
  for (let n = blocks; n < header.blocks; ) {
    const count = Math.min(CHUNK, header.blocks - n);
    volume.map.set(n, count, ENTRY.free);
    n += count;
  }
  volume.barrier();
  drained(compact(volume));
  volume.change({ blocks });
  volume.barrier();
  const end = hostOf(volume.header, volume.header.allocated) - volume.header.blockExtra;
  if (volume.storage.size() > end) volume.storage.resize(end);
}
