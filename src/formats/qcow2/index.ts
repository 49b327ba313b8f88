import type { ImageFormat } from '../../image/format.js';
import { amending } from './amend/amend.js';
import { bitmaps } from './bitmaps/change.js';
import { check } from './check/check.js';
import { creation } from './create/create.js';
import { keySlots } from './encryption.js';
import { openImage } from './image.js';
import { decodeSignature, MAGIC, probedClusterSize } from './layout.js';

/** QEMU's qcow2, versions 2 and 3. What is supported, and the traps, are in this folder's README. */
export const qcow2: ImageFormat = {
  kind: 'image',
  name: 'qcow2',
  summary: 'QEMU copy-on-write, versions 2 and 3, with internal snapshots',
  extensions: ['.qcow2'],
  can: { write: true, create: true, snapshots: true, resize: true },
  /** Version 1 shares the magic and is another format. */
  probe(head) {
    if (head.length < 8) return false;
    const { magic, version } = decodeSignature(head);
    return magic === MAGIC && version >= 2;
  },
  ownBytes: probedClusterSize,
  open: openImage,
  creation,
  keySlots,
  bitmaps,
  amending,
  check,
};
