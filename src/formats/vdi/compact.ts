import { BitPages } from '../../lib/bits.js';
import { readPadded } from '../../storage/storage.js';
import { isBlock } from './block-map.js';
import { unused } from './free-blocks.js';
import { blockStride } from './header.js';
import type { Volume } from './volume.js';

/** A block of the guest that goes to another place in the file. */
export interface Move {
  readonly block: number;
  readonly from: number;
  readonly to: number;
}

/** Bytes copied at once, and blocks moved between two barriers. */
const STEP_BYTES = 1024 * 1024;
const GROUP = 64;

/**
 * Copies blocks to places no entry leads to, and enters them there, a group at a time: copies durable before entries,
 * entries durable before anything else takes the old places. Says after each block how far it has come, from 0 to 1.
 */
export function* copyBlocks(volume: Volume, moves: readonly Move[]): Generator<number> {
  for (let n = 0; n < moves.length; n += GROUP) {
    const group = moves.slice(n, n + GROUP);
    for (const [k, { from, to }] of group.entries()) {
      copyBlock(volume, from, to);
      yield (n + k) / moves.length;
    }
    volume.barrier();
    for (const { block, to } of group) volume.map.set(block, 1, to);
    volume.barrier();
  }
}

/**
 * Moves blocks down into places that nothing uses, until as many are counted as are used. Throws what the storage
 * throws; wherever it ends, the image is sound. Steps are those of `copyBlocks`.
 */
export function* compact(volume: Volume): Generator<number> {
  const used = new BitPages();
  const found: (readonly [block: number, entry: number])[] = [];
  let count = 0;
  for (const [, entry] of volume.map.all()) {
    if (!isBlock(entry) || used.has(entry)) continue;
    used.add(entry);
    count++;
  }
  for (const [block, entry] of volume.map.all()) if (isBlock(entry) && entry >= count) found.push([block, entry]);
  const places = unused(used, count).flatMap(({ first, count: n }) => Array.from({ length: n }, (_, k) => first + k));
  const moves = found.slice(0, places.length).map(([block, from], n) => ({ block, from, to: places[n]! }));
  yield* copyBlocks(volume, moves);
  if (moves.length === found.length && volume.header.allocated !== count) {
    volume.change({ allocated: count });
    volume.barrier();
  }
}

/** With the bytes in front of it. */
function copyBlock(volume: Volume, from: number, to: number): void {
  const { storage, header } = volume;
  const stride = blockStride(header);
  const bytes = Buffer.alloc(Math.min(STEP_BYTES, stride));
  for (let done = 0; done < stride; done += bytes.length) {
    const part = bytes.subarray(0, Math.min(bytes.length, stride - done));
    readPadded(storage, part, header.dataAt + from * stride + done);
    storage.write(part, header.dataAt + to * stride + done);
  }
}
