import type { ImageFormat } from '../../image/format.js';
import { check } from './check.js';
import { creation } from './create.js';
import { isDescriptor } from './descriptor.js';
import { openImage } from './image.js';
import { HEADER_BYTES, hostedOverhead, kindOf } from './layout.js';

/** VMware's disks: descriptors with flat and sparse extents. What is supported, and the traps, are in the README. */
export const vmdk: ImageFormat = {
  kind: 'image',
  name: 'vmdk',
  summary: 'VMware disk: sparse, flat, split, stream optimized, of ESX, and deltas',
  extensions: ['.vmdk'],
  can: { write: true, create: true, snapshots: false, resize: true },
  probe: (head) => kindOf(head) !== undefined || isDescriptor(head),
  /** All of a descriptor; of a sparse extent what lies before its grains. */
  ownBytes(head) {
    const kind = kindOf(head);
    if (kind === undefined) return head.length;
    return Math.min(head.length, kind === 'hosted' ? hostedOverhead(head) : HEADER_BYTES[kind]);
  },
  open: openImage,
  creation,
  check,
};
