import { decodeVersion } from '../../codec/luks/layout.js';
import type { ImageFormat } from '../../image/format.js';
import { check } from './check.js';
import { creation } from './create.js';
import { openImage } from './image.js';

/** The first bytes that are the format's own: QEMU's and cryptsetup's data begins further on. */
const OWN_BYTES = 4096;

/** LUKS version 1: a header with eight key slots, then the disk, encrypted sector by sector. */
export const luks: ImageFormat = {
  kind: 'image',
  name: 'luks',
  summary: 'an encrypted LUKS container, version 1',
  extensions: ['.luks'],
  can: { write: true, create: true, snapshots: false, resize: true },
  /** Any version: one that cannot be opened is refused by name, never taken for a raw disk. */
  probe: (head) => decodeVersion(head) !== undefined,
  ownBytes: () => OWN_BYTES,
  open: openImage,
  creation,
  keySlots: (storage) => storage,
  check,
};
