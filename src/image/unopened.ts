/**
 * Stand-ins for files that an image names and that were deliberately not opened: `info` opens one file only. They
 * have no size and no bytes; any use beyond closing them is refused.
 */
import { ImgfsError } from '../lib/errors.js';
import type { Storage } from '../storage/storage.js';
import type { Reference } from './format.js';
import type { Image } from './image.js';

/** In place of a data file or extent. */
export function unopenedStorage(reference: Reference): Storage {
  const refuse = (): never => {
    throw notOpened(reference);
  };
  return {
    name: reference.name,
    writable: false,
    size: refuse,
    read: refuse,
    write: refuse,
    flush: refuse,
    resize: refuse,
    discard: refuse,
    allocate: refuse,
    extent: refuse,
    allocated: () => 0,
    close: () => {},
  };
}

/** In place of a backing or parent image. */
export function unopenedImage(reference: Reference): Image {
  const refuse = (): never => {
    throw notOpened(reference);
  };
  return {
    get size(): number {
      return refuse();
    },
    blockSize: 512,
    info: { format: reference.format ?? 'unknown', dirty: false, encrypted: false, compressed: false },
    backing: undefined,
    read: refuse,
    extent: refuse,
    snapshots: () => [],
    openSnapshot: refuse,
    openVmState: refuse,
    writable: false,
    write: refuse,
    overwrite: refuse,
    copyIn: refuse,
    packing: undefined,
    writePacked: refuse,
    zero: refuse,
    publish: refuse,
    flush: refuse,
    resize: refuse,
    empty: refuse,
    changeBacking: refuse,
    createSnapshot: refuse,
    deleteSnapshot: refuse,
    applySnapshot: refuse,
    renameSnapshot: refuse,
    hostBytes: () => 0,
    close: () => {},
  };
}

function notOpened(reference: Reference): ImgfsError {
  return new ImgfsError('refused', `"${reference.name}" was not opened`);
}
