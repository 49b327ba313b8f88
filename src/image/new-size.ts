import { ImgfsError } from '../lib/errors.js';
import type { Image } from './image.js';

const SECTOR = 512;

/**
 * Whether a disk can be given that size, before anything is done about it; `name` is what it is called. Throws `usage`
 * for a part of a sector, which QEMU cannot show but in a raw file, and `limit` past 2^53.
 */
export function checkNewSize({ size: present, info }: Image, size: number, name: string): void {
  if (!Number.isSafeInteger(size)) throw new ImgfsError('limit', `${name}: ${size} bytes are too many`);
  if (size % SECTOR !== 0 && size !== present && info.format !== 'raw') {
    throw new ImgfsError('usage', `${name}: the new size must be a multiple of ${SECTOR}`);
  }
}
