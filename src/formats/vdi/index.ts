import type { ImageFormat } from '../../image/format.js';
import { check } from './check.js';
import { creation } from './create.js';
import { openImage } from './image.js';
import { bytesBeforeBlocks, hasSignature } from './layout.js';

/** VirtualBox's own disk. What is supported, and the traps, are in this folder's README. */
export const vdi: ImageFormat = {
  kind: 'image',
  name: 'vdi',
  summary: 'VirtualBox disk, dynamic, static or differencing',
  extensions: ['.vdi'],
  can: { write: true, create: true, snapshots: false, resize: true },
  probe: hasSignature,
  ownBytes: bytesBeforeBlocks,
  open: openImage,
  creation,
  check,
};
