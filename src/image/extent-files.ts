/**
 * Files that an image is made of: extents, which lie beside the descriptor that names them and are named as extents of
 * that family are. They may be written with the image; whatever else it names is written only on the user's word.
 */
import { dirname, extname } from 'node:path';
import type { HostFile } from './files.js';
import type { Reference } from './format.js';

const FAMILY = '.vmdk';

/** Whether a file of that name can be an extent of its own family: a plain name, in the descriptor's directory. */
export function isOwnExtent({ role, name }: Reference): boolean {
  return role === 'extent' && !name.includes('/') && extname(name).toLowerCase() === FAMILY;
}

/** Whether the opened file, all links followed, is in a directory of the file that names it, under such a name. */
export function liesBeside({ path }: HostFile, naming: HostFile): boolean {
  return naming.directories.includes(dirname(path)) && extname(path).toLowerCase() === FAMILY;
}
