import { ImgfsError } from '../lib/errors.js';
import type { Snapshot } from './image.js';
import type { OpenedImage } from './open.js';

/**
 * The snapshot that a user means: by id first, then by name, as qemu-img applies one; or by name first, as it deletes
 * one. Of several with one name the first. Throws `missing` with the names there are.
 */
export function snapshotNamed(
  { image, file }: Pick<OpenedImage, 'image' | 'file'>,
  wanted: string,
  first: 'id' | 'name' = 'id',
): Snapshot {
  return pickSnapshot(image.snapshots(), wanted, { first, of: file.name });
}

/** The same from a list; `of` names the image. */
export function pickSnapshot<T extends Pick<Snapshot, 'id' | 'name'>>(
  snapshots: readonly T[],
  wanted: string,
  { first, of }: { readonly first: 'id' | 'name'; readonly of: string },
): T {
  const second = first === 'id' ? 'name' : 'id';
  const found = snapshots.find((one) => one[first] === wanted) ?? snapshots.find((one) => one[second] === wanted);
  if (found !== undefined) return found;
  const names = snapshots.map(({ name }) => `"${name}"`).join(', ');
  throw new ImgfsError('missing', `${of} has no snapshot "${wanted}"`, {
    hint: names === '' ? 'it has none at all' : `it has ${names}`,
  });
}
