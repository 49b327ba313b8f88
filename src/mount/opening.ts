/** Which images of a mount are opened for writing, and what is said where one is not. */
import fs from 'node:fs';
import { basename, join } from 'node:path';
import { formats } from '../formats/index.js';
import type { HostFile } from '../image/files.js';
import type { Snapshot } from '../image/image.js';
import type { Passphrases } from '../image/keys.js';
import { snapshotNamed } from '../image/named-snapshot.js';
import { type OpenedImage, type OpenOptions, openImage, type WriteAccess } from '../image/open.js';
import { errorLine, ImgfsError } from '../lib/errors.js';
import { stemOf, uniqueNames } from '../tree/names.js';
import { CACHES, type MountOptions } from './options.js';
import { openOverlay } from './overlay.js';

/** An image of the mount. */
export interface MountedImage extends OpenedImage {
  /** The file it is known by: below an overlay, the image's own. */
  readonly named: HostFile;
  /** The snapshot that is shown as the disk. */
  readonly shown: Snapshot | undefined;
  /** Closes all there is of it. Throws what closing the image throws. */
  close(): void;
}

/**
 * Opens every image of the options: for writing unless they say otherwise, and read-only, with one line saying why,
 * where that cannot be. Throws ImgfsError, having closed what it had opened; with `-o rw` also where an image cannot be
 * written.
 */
export function openImages(
  options: MountOptions,
  passphrases: Passphrases,
  warn: (message: string) => void,
): readonly MountedImage[] {
  const reading: OpenOptions = {
    formats,
    format: options.format,
    references: { follow: !options.noRefs, allowed: options.allowRefs },
    forceShare: options.forceShare,
    passphrases,
    warn,
  };
  if (options.overlay !== undefined) return openOverlays(options, options.overlay, reading);
  const write = options.access === 'ro' ? undefined : writeAccess(options);
  const shared = write === undefined ? new Map<string, string>() : usedByOthers(options.images, reading);
  return openEach(options.images, (path) => {
    const refusal = reasonToRead(options, shared.get(path));
    const opened = openOne(path, { ...reading, write }, options.access === 'rw', refusal, warn);
    return mounted(opened, opened.file, options.snapshot);
  });
}

/** All or nothing. */
function openEach(
  paths: readonly string[],
  open: (path: string, index: number) => MountedImage,
): readonly MountedImage[] {
  const opened: MountedImage[] = [];
  try {
    for (const [index, path] of paths.entries()) opened.push(open(path, index));
    return opened;
  } catch (error) {
    for (const one of opened) one.close();
    throw error;
  }
}

function mounted(opened: OpenedImage, named: HostFile, snapshot: string | undefined): MountedImage {
  const close = (): void => opened.image.close();
  try {
    return { ...opened, named, shown: snapshot === undefined ? undefined : snapshotNamed(opened, snapshot), close };
  } catch (error) {
    close();
    throw error;
  }
}

/** Every image, or the snapshot asked for, below an overlay of its own. */
function openOverlays(options: MountOptions, overlay: string, reading: OpenOptions): readonly MountedImage[] {
  if (options.access === 'ro') {
    throw new ImgfsError('usage', 'an overlay is there to be written', { hint: 'leave out --overlay, or -r' });
  }
  if (options.snapshot !== undefined && overlay !== 'tmp') {
    throw new ImgfsError('usage', 'a snapshot can have a temporary overlay only', { hint: 'use --overlay tmp' });
  }
  const places = overlayPlaces(options.images, overlay);
  return openEach(options.images, (path, index) => {
    const base = openImage(path, reading);
    try {
      const wanted = options.snapshot;
      const snapshot = wanted === undefined ? undefined : snapshotNamed(base, wanted).id;
      const write = writeAccess(options);
      const opened = openOverlay({ at: places[index] ?? '', base, snapshot, options: { ...reading, write } });
      const close = (): void => {
        try {
          opened.image.close();
        } finally {
          base.image.close();
        }
      };
      return { ...opened, named: base.file, shown: undefined, close };
    } catch (error) {
      base.image.close();
      throw error;
    }
  });
}

/** One file for each image: in a directory they are called as the images are. */
function overlayPlaces(images: readonly string[], overlay: string): readonly string[] {
  if (overlay === 'tmp') return images.map(() => overlay);
  if (fs.statSync(overlay, { throwIfNoEntry: false })?.isDirectory() === true) {
    const stems = images.map((path) => stemOf(basename(path)));
    return uniqueNames(stems, '.qcow2').map((name) => join(overlay, name));
  }
  if (images.length === 1) return [overlay];
  throw new ImgfsError('usage', 'several images need a directory for their overlays', {
    hint: `make ${overlay} a directory`,
  });
}

function writeAccess(options: MountOptions): WriteAccess {
  const { direct, unsafe } = CACHES[options.cache];
  return { references: options.writableRefs, direct, unsafe, threads: true };
}

/** Why no image of such a mount can be written, or not this one. */
function reasonToRead(options: MountOptions, user: string | undefined): string | undefined {
  if (options.forceShare) return 'with --force-share others may be writing it';
  if (options.snapshot !== undefined) return 'a snapshot is only read';
  return user === undefined ? undefined : `it is also used by ${user} in this mount`;
}

function openOne(
  path: string,
  options: OpenOptions,
  insists: boolean,
  refusal: string | undefined,
  warn: (message: string) => void,
): OpenedImage {
  if (options.write === undefined) return openImage(path, options);
  const reading = { ...options, write: undefined };
  const readOnly = (why: string, cause?: unknown): OpenedImage => {
    if (insists) {
      throw cause ?? new ImgfsError('read-only', `${path} cannot be mounted read-write: ${why}`);
    }
    const opened = openImage(path, reading);
    warn(`${path} is mounted read-only: ${why}`);
    return opened;
  };
  if (refusal !== undefined) return readOnly(refusal);
  try {
    return openImage(path, options);
  } catch (error) {
    // Without its key an image cannot be read either.
    if (!(error instanceof ImgfsError) || error.reason === 'passphrase') throw error;
    return readOnly(errorLine(error).replace(/^imgfs: /, ''), error);
  }
}

/**
 * The images that others of the same mount use, as their backing files or once more, with what uses them. All are
 * opened for that, and closed again, before one of them is opened for writing.
 */
function usedByOthers(paths: readonly string[], options: OpenOptions): ReadonlyMap<string, string> {
  const found = new Map<string, string>();
  if (paths.length < 2) return found;
  const looked = paths.flatMap((path, index) => {
    try {
      const { image, file, chain } = openImage(path, { ...options, passphrases: undefined, warn: () => {} });
      image.close();
      return [{ path, index, own: file.identity, all: chain.map(({ identity }) => identity) }];
    } catch (error) {
      // It is told when it is opened to be used.
      if (error instanceof ImgfsError) return [];
      throw error;
    }
  });
  for (const { path, index, own } of looked) {
    const user = looked.find((other) => other.index !== index && other.all.includes(own));
    if (user !== undefined) found.set(path, user.path);
  }
  return found;
}
