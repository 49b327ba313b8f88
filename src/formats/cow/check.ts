import type { Checking, CheckOptions } from '../../image/check.js';
import type { OpenContext } from '../../image/format.js';
import { Health } from '../../image/health.js';
import { ImgfsError } from '../../lib/errors.js';
import type { Storage } from '../../storage/storage.js';
import { Bitmap } from './bitmap.js';
import { type Header, readHeader } from './header.js';

/** Sectors of a step, at least: runs may be short. */
const TOLD_EVERY = 65_536;

/**
 * Counts the sectors there are and looks for bits behind the last one: all that can be wrong with a bitmap. Throws where
 * the image cannot be opened, and `unsupported` for a repair.
 */
export function* check(storage: Storage, context: OpenContext, options: CheckOptions): Checking {
  if (options.repair !== 'none') {
    throw new ImgfsError('unsupported', `${storage.name}: a COW image cannot be repaired`, {
      hint: 'copy its disk to a new image',
    });
  }
  const header = readHeader(storage, context.limits);
  const found = yield* count(header, new Bitmap(storage, header, context, new Health(undefined)), options.tell);
  const { sectors, sectorSize, dataAt, bitmapAt, bitmapBytes } = header;
  return {
    corruptions: found.behind,
    leaks: 0,
    checkErrors: 0,
    corruptionsFixed: 0,
    leaksFixed: 0,
    imageEnd: found.end === 0 ? bitmapAt + bitmapBytes : dataAt + found.end * sectorSize,
    units: { total: sectors, allocated: found.allocated, fragmented: found.fragmented, compressed: 0 },
  };
}

interface Found {
  allocated: number;
  fragmented: number;
  /** Set bits that stand for no sector. */
  behind: number;
  /** The sector after the last one there is. */
  end: number;
}

function* count(header: Header, bitmap: Bitmap, tell: CheckOptions['tell']): Generator<number, Found, void> {
  const { sectors, bitmapBytes } = header;
  let next = 0;
  const found: Found = { allocated: 0, fragmented: 0, behind: 0, end: 0 };
  for (let sector = 0; sector < bitmapBytes * 8; ) {
    if (sector >= next) {
      yield sector / (bitmapBytes * 8);
      next = sector + TOLD_EVERY;
    }
    const { set, count } = bitmap.longRun(sector, bitmapBytes * 8 - sector);
    const inside = Math.max(0, Math.min(sectors, sector + count) - sector);
    if (set && inside > 0) {
      if (found.end !== 0 && found.end !== sector) found.fragmented++;
      found.allocated += inside;
      found.end = sector + inside;
    }
    if (set && count > inside) {
      found.behind++;
      tell(`ERROR: ${count - inside} bits of the bitmap are set behind the last sector`);
    }
    sector += count;
  }
  yield 1;
  return found;
}
