/** Going on where a disk cannot be read: every sector that can be read is, the others become zeros. */
import type { Extent } from '../image/image.js';
import { roundUp } from '../lib/bits.js';
import { ImgfsError } from '../lib/errors.js';
import type { ReadDisk } from './joined.js';

/** A range that could not be read, and why. */
export interface Lost {
  readonly at: number;
  readonly length: number;
  readonly why: string;
}

const SECTOR = 512;
/** How far it goes on without a map. */
const UNMAPPED = 64 * 1024;

/** Fills `into`, and returns what of it is zeros because it could not be read. Throws only what is no fault of the disk. */
export function readSalvaging(disk: ReadDisk, into: Uint8Array, at: number): readonly Lost[] {
  try {
    disk.read(into, at);
    return [];
  } catch (error) {
    if (!(error instanceof ImgfsError)) throw error;
  }
  const lost: Lost[] = [];
  for (let done = 0; done < into.length; ) {
    const sector = into.subarray(done, Math.min(into.length, roundUp(at + done + 1, SECTOR) - at));
    try {
      disk.read(sector, at + done);
    } catch (error) {
      if (!(error instanceof ImgfsError)) throw error;
      sector.fill(0);
      note(lost, { at: at + done, length: sector.length, why: error.message });
    }
    done += sector.length;
  }
  return lost;
}

function note(lost: Lost[], next: Lost): void {
  const last = lost.at(-1);
  if (last !== undefined && last.at + last.length === next.at && last.why === next.why) {
    lost[lost.length - 1] = { ...last, length: last.length + next.length };
  } else lost.push(next);
}

/** A disk whose map may be damaged: where it is, there may be anything, so it is read. */
export class SalvagedDisk implements ReadDisk {
  readonly size: number;

  constructor(private readonly disk: ReadDisk) {
    this.size = disk.size;
  }

  extent(at: number, length: number): Extent {
    try {
      return this.disk.extent(at, length);
    } catch (error) {
      if (!(error instanceof ImgfsError)) throw error;
      const step = Math.min(length, roundUp(at + 1, UNMAPPED) - at);
      return { start: at, length: step, depth: 0, present: true, zero: false, data: true, compressed: false };
    }
  }

  read(into: Uint8Array, at: number): void {
    this.disk.read(into, at);
  }
}
