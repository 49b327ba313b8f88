import type { Extent, Image } from '../image/image.js';
import { roundUp } from '../lib/bits.js';

/** What is read of a disk that is copied. */
export type ReadDisk = Pick<Image, 'size' | 'extent' | 'read'>;

const SECTOR = 512;

/** Several disks one after the other, each filled up with zeros to a whole sector, as qemu-img concatenates them. */
export class JoinedDisk implements ReadDisk {
  readonly size: number;
  /** Where the last disk ends: what fills it up to a whole sector comes after that. */
  readonly end: number;
  private readonly pieces: readonly Piece[];

  constructor(disks: readonly ReadDisk[]) {
    let start = 0;
    this.pieces = disks.map((disk) => {
      const piece = { disk, start, end: start + roundUp(disk.size, SECTOR) };
      start = piece.end;
      return piece;
    });
    this.size = start;
    const last = this.pieces.at(-1);
    this.end = last === undefined ? 0 : last.start + last.disk.size;
  }

  extent(at: number, length: number): Extent {
    const { disk, start, end } = this.pieceAt(at);
    const here = at - start;
    const most = Math.min(length, end - at);
    if (here >= disk.size) {
      return { start: at, length: most, depth: 0, present: false, zero: true, data: false, compressed: false };
    }
    const extent = disk.extent(here, Math.min(most, disk.size - here));
    return start === 0 ? extent : { ...extent, start: at };
  }

  read(into: Uint8Array, at: number): void {
    for (let done = 0; done < into.length; ) {
      const { disk, start, end } = this.pieceAt(at + done);
      const here = at + done - start;
      const part = into.subarray(done, Math.min(into.length, end - at));
      const there = Math.max(0, Math.min(part.length, disk.size - here));
      if (there > 0) disk.read(part.subarray(0, there), here);
      part.fill(0, there);
      done += part.length;
    }
  }

  private pieceAt(at: number): Piece {
    const found = this.pieces.find(({ end }) => at < end);
    if (found === undefined) throw new RangeError(`${at} is outside the disk`);
    return found;
  }
}

interface Piece {
  readonly disk: ReadDisk;
  readonly start: number;
  readonly end: number;
}
