import type { Reference } from '../../image/format.js';
import type { Limits } from '../../image/limits.js';
import { ImgfsError } from '../../lib/errors.js';
import { decodeHeader, type Header, SECTOR } from './header.js';
import { hasSignature, NO_UUID } from './layout.js';

/**
 * How the parent of a differencing image is found: it is known by its UUID alone, so it is whichever VDI has that one.
 * Its modification UUID must be the one it had, where the image tells: written since, it would show wrong bytes.
 */
export function parentReference(name: string, { parent }: Header, limits: Limits): Reference | undefined {
  if (parent === undefined) return undefined;
  const { uuid, modified } = parent;
  return {
    role: 'parent',
    name: uuid,
    format: 'vdi',
    identity: {
      extension: '.vdi',
      bytes: SECTOR,
      matches(head) {
        const found = headerOf(head, limits);
        if (found?.uuid !== uuid) return false;
        if (modified === NO_UUID || found.modified === modified) return true;
        throw new ImgfsError('corrupt', `${name}: its parent ${uuid} was written after the image was made`, {
          hint: 'what the image shows over it would be wrong',
        });
      },
    },
  };
}

/** The header of another file, if it is a VDI we can make sense of. */
function headerOf(head: Buffer, limits: Limits): Header | undefined {
  if (!hasSignature(head)) return undefined;
  try {
    return decodeHeader(head, 'another image', limits);
  } catch (error) {
    if (error instanceof ImgfsError) return undefined;
    throw error;
  }
}
