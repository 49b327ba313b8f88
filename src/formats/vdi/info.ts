import type { ImageInfo, Json } from '../../image/image.js';
import type { Header } from './header.js';

/**
 * What `info` prints: qemu-img says no more than the block size. A differencing image, which it refuses, has its UUIDs
 * in addition, because they are all that names its parent.
 */
export function infoOf({ blockSize, parent, uuid, type }: Header): ImageInfo {
  const data: { readonly [key: string]: Json } = { type, uuid, 'parent-uuid': parent?.uuid ?? null };
  return {
    format: 'vdi',
    clusterSize: blockSize,
    dirty: false,
    encrypted: false,
    compressed: false,
    ...(parent === undefined ? {} : { specific: { type: 'vdi', data } }),
  };
}
