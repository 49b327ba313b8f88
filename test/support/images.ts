import { formats } from '../../src/formats/index.js';
import type { OpenContext } from '../../src/image/format.js';
import type { Image } from '../../src/image/image.js';
import { DEFAULT_LIMITS, type Limits } from '../../src/image/limits.js';
import { openImage } from '../../src/image/open.js';
import { unopenedImage, unopenedStorage } from '../../src/image/unopened.js';

/** Opens an image file as the program would, references beneath its directory allowed. */
export function openFile(path: string, format?: string): Image {
  const references = { follow: true, allowed: [] };
  return openImage(path, { formats, format, references, forceShare: false, warn: () => {} }).image;
}

/** As `openFile`, for writing. */
export function openToWrite(path: string, format?: string): Image {
  const references = { follow: true, allowed: [] };
  const write = { references: false, direct: false, unsafe: false, threads: false };
  return openImage(path, { formats, format, references, forceShare: false, write, warn: () => {} }).image;
}

/** A context that follows no reference: what `info` passes. */
export function closedContext(limits: Partial<Limits> = {}): OpenContext {
  return {
    writable: false,
    limits: { ...DEFAULT_LIMITS, ...limits },
    standIns: true,
    openStorage: unopenedStorage,
    openImage: unopenedImage,
  };
}

/** All guest bytes, read in steps of `step`. */
export function readAll(image: Image, step = 1024 * 1024): Buffer {
  const bytes = Buffer.alloc(image.size);
  for (let at = 0; at < image.size; at += step) image.read(bytes.subarray(at, Math.min(at + step, image.size)), at);
  return bytes;
}
