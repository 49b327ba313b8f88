import type { Image } from '../../image/image.js';
import { ImgfsError } from '../../lib/errors.js';
import type { Storage } from '../../storage/storage.js';
import type { Header } from './header.js';

const TWO_32 = 2 ** 32;

/**
 * What User Mode Linux asks of the file below an image: the size and the date it had when the image was made. Sectors
 * that were never written come from there, so a file that was changed since is another disk. `modified` is its date in
 * seconds since 1970; undefined where it was not opened, or by whoever opened it first. Throws `refused`.
 */
export function assertSameBacking(
  storage: Storage,
  header: Header,
  backing: Image,
  modified: number | undefined,
): void {
  if (modified === undefined) return;
  const what = `${storage.name}: its backing file "${header.backing}"`;
  if (backing.size !== header.size) {
    throw new ImgfsError('refused', `${what} is ${backing.size} bytes long, and was ${header.size} when it was made`);
  }
  if (modified % TWO_32 === header.modified) return;
  throw new ImgfsError('refused', `${what} was changed after the image was made of it`, {
    hint: `if its content is the same, give it its date back: touch -d @${header.modified} FILE`,
  });
}
