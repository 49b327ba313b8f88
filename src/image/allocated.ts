import type { Image } from './image.js';

/** How long counting may take, in milliseconds. The number is a statistic; nobody should wait for it. */
const PATIENCE = 50;

/** Extents between two looks at the clock. */
const STRIDE = 256;

/**
 * Guest bytes that are really stored: what a view shows as st_blocks, so that tools know to look for holes. Exact for
 * all but huge fragmented images; for those the part not counted in time is taken to be as full as the part that was.
 */
export function allocatedBytes(image: Image, patience = PATIENCE): number {
  const deadline = performance.now() + patience;
  let stored = 0;
  let at = 0;
  for (let n = 1; at < image.size; n++) {
    try {
      const extent = image.extent(at, image.size - at);
      if (!extent.zero) stored += extent.length;
      at += extent.length;
    } catch {
      // A damaged range: it counts as stored, so that reading it is tried and fails where it should.
      const step = Math.min(image.blockSize, image.size - at);
      stored += step;
      at += step;
    }
    if (n % STRIDE === 0 && performance.now() > deadline) return Math.round((stored / at) * image.size);
  }
  return stored;
}
