/** Persistent bitmaps that go with a disk into a new image. */
import type { BitmapBits } from '../image/bitmaps.js';
import type { Format, ImageFormat, OpenContext } from '../image/format.js';
import type { DirtyBitmap } from '../image/image.js';
import { DEFAULT_LIMITS } from '../image/limits.js';
import type { OpenedImage } from '../image/open.js';
import { formatNamed } from '../image/probe.js';
import { unopenedImage, unopenedStorage } from '../image/unopened.js';
import { ImgfsError } from '../lib/errors.js';
import { FileStorage } from '../storage/file.js';
import type { Storage } from '../storage/storage.js';

/** A bitmap of the source, and what it says. */
export interface CopiedBitmap extends DirtyBitmap {
  readonly bits: BitmapBits;
}

/**
 * The bitmaps of an image's own layer. One that cannot be trusted is left out with a warning, where that is allowed.
 * Throws `unsupported` where the source has none by its format, `corrupt` for one that cannot be trusted.
 */
export function copiedBitmaps(
  { image, file, plan }: Pick<OpenedImage, 'image' | 'file' | 'plan'>,
  options: {
    readonly formats: readonly Format[];
    readonly skipBroken: boolean;
    readonly warn: (message: string) => void;
  },
): readonly CopiedBitmap[] {
  const { bitmaps: all, format: name } = image.info;
  const format = formatNamed(options.formats, name);
  const driver = format.kind === 'image' ? format.bitmaps : undefined;
  if (all === undefined || driver === undefined || plan.within !== undefined) {
    throw new ImgfsError('unsupported', `${file.name}: such an image has no bitmaps to copy`);
  }
  const storage = new FileStorage(file);
  return all.flatMap((bitmap) => {
    if (bitmap.inUse && options.skipBroken) {
      options.warn(`bitmap "${bitmap.name}" does not tell what changed: it is left out`);
      return [];
    }
    return [{ ...bitmap, bits: driver.bits(storage, DEFAULT_LIMITS, bitmap.name) }];
  });
}

/** Puts them into a new image that is complete and not open. `size` is that of its disk. */
export function putBitmaps(
  { bitmaps: driver }: ImageFormat,
  storage: Storage,
  size: number,
  copied: readonly CopiedBitmap[],
): void {
  const context: OpenContext = {
    writable: true,
    limits: DEFAULT_LIMITS,
    openStorage: unopenedStorage,
    openImage: unopenedImage,
  };
  for (const { name, granularity, auto, bits } of copied) {
    // A disk of no whole sectors has grown to whole ones.
    const source = { name, size, ranges: () => bits.ranges() };
    driver?.change(storage, context, name, [
      { kind: 'add', granularity },
      { kind: 'merge', source },
      { kind: auto ? 'enable' : 'disable' },
    ]);
  }
}
