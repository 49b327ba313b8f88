import type { Checking, CheckOptions, CheckReport } from '../../image/check.js';
import type { OpenContext } from '../../image/format.js';
import { BitPages } from '../../lib/bits.js';
import { ImgfsError } from '../../lib/errors.js';
import type { Storage } from '../../storage/storage.js';
import { isBlock } from './block-map.js';
import { compact } from './compact.js';
import { blockStride } from './header.js';
import { Volume } from './volume.js';

/** Blocks of a step. */
const TOLD_EVERY = 65_536;

interface Findings {
  readonly corruptions: number;
  /** The counter is lower than it must be; this is what it must be. */
  readonly counted: number;
  /** Something that no repair can mend. */
  readonly hopeless: number;
  readonly leaks: number;
  readonly allocated: number;
  readonly fragmented: number;
  readonly end: number;
}

/**
 * Looks at every entry of the map: each leads to a block of its own, which the header counts. A counter that is too
 * high only wastes numbers and is told as leaks, where QEMU calls every difference a corruption. `leaks` moves blocks
 * down into the free places and brings the counter to what it should be; `all` also raises one that is too low.
 */
export function* check(storage: Storage, context: OpenContext, options: CheckOptions): Checking {
  const volume = new Volume(storage, context);
  const before = yield* inspect(volume, options.tell);
  if (options.repair === 'none') return report(volume, before);
  if (!storage.writable) throw new ImgfsError('read-only', `${storage.name}: cannot be repaired, it is open read-only`);
  if (before.hopeless > 0) {
    options.tell('Nothing is repaired: which block belongs where cannot be told');
    return report(volume, before);
  }
  const countIsLow = before.counted > volume.header.allocated;
  if (countIsLow && options.repair === 'all') {
    volume.change({ allocated: before.counted });
    volume.barrier();
  }
  if (!countIsLow || options.repair === 'all') yield* compact(volume);
  const after = yield* inspect(volume, () => {});
  return {
    ...report(volume, after),
    corruptionsFixed: before.corruptions - after.corruptions,
    leaksFixed: Math.max(0, before.leaks - after.leaks),
  };
}

function* inspect(volume: Volume, tell: CheckOptions['tell']): Generator<number, Findings, void> {
  const { header } = volume;
  const used = new BitPages();
  const limit = Math.max(header.blocks, header.allocated);
  let [hopeless, uncounted, allocated, fragmented, counted] = [0, 0, 0, 0, header.allocated];
  let previous = -1;
  for (const [block, entry] of volume.map.all()) {
    if (block % TOLD_EVERY === 0) yield block / header.blocks;
    if (!isBlock(entry)) continue;
    if (entry >= limit) {
      hopeless++;
      tell(`Guest block ${block}: block ${entry} is one that no image of this size has`);
      continue;
    }
    if (used.has(entry)) {
      hopeless++;
      tell(`Guest block ${block}: block ${entry} is used by another guest block, too`);
      continue;
    }
    if (entry >= header.allocated) {
      uncounted++;
      counted = Math.max(counted, entry + 1);
      tell(`Guest block ${block}: block ${entry} is used, but only ${header.allocated} are counted`);
    }
    used.add(entry);
    if (allocated > 0 && entry !== previous + 1) fragmented++;
    previous = entry;
    allocated++;
  }
  yield 1;
  const leaks = Math.max(0, header.allocated - allocated);
  if (hopeless + uncounted === 0 && leaks > 0)
    tell(`${header.allocated} blocks are counted, but ${allocated} are used`);
  const end = header.dataAt + counted * blockStride(header);
  return { corruptions: hopeless + uncounted, counted, hopeless, leaks, allocated, fragmented, end };
}

function report({ header }: Volume, { corruptions, leaks, allocated, fragmented, end }: Findings): CheckReport {
  return {
    corruptions,
    leaks: corruptions > 0 ? 0 : leaks,
    checkErrors: 0,
    corruptionsFixed: 0,
    leaksFixed: 0,
    imageEnd: end,
    units: { total: header.blocks, allocated, fragmented, compressed: 0 },
  };
}
