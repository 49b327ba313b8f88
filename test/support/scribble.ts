/** Random changes of a disk, made to images and to a plain buffer. */
import type { Image } from '../../src/image/image.js';
import type { Random } from './seed.js';

/** Longest change, in units of the image; most are far shorter. */
const LONGEST = 40;

/**
 * Writes, zeros, discards and flushes, each on one of `images` (several views of one disk), and on `disk`, which is
 * what they show. Places and lengths are chosen around the image's units.
 */
export function scribble(images: readonly Image[], disk: Buffer, steps: number, random: Random): void {
  const [{ blockSize } = { blockSize: 512 }] = images;
  for (let step = 0; step < steps; step++) {
    const image = random.pick(images);
    const edge = random.below(Math.ceil(disk.length / blockSize)) * blockSize;
    const at = Math.min(edge + (random.below(2) === 0 ? 0 : random.below(blockSize)), disk.length);
    const longest = random.below(4) === 0 ? blockSize * LONGEST : blockSize * 2;
    const length = Math.min(random.below(longest) + 1, disk.length - at);
    const kind = random.below(10);
    if (kind < 6) {
      const bytes = random.bytes(length);
      image.write(bytes, at);
      disk.set(bytes, at);
    } else if (kind < 9) {
      image.zero(at, length, { unmap: kind > 6 });
      disk.fill(0, at, at + length);
    } else if (random.below(2) === 0) image.flush();
    else image.publish();
  }
}
