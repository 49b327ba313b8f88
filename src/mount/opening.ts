/** Which images of a mount are opened for writing, and what is said where one is not. */
import fs from 'node:fs';
import { basename, join } from 'node:path';
import { formats } from '../formats/index.js';
import type { HostFile } from '../image/files.js';
import type { Snapshot } from '../image/image.js';
import type { Passphrases } from '../image/keys.js';
import { snapshotNamed } from '../image/named-snapshot.js';
import { type OpenedImage, type OpenOptions, openContainer, openImage, type WriteAccess } from '../image/open.js';
import type { OpenedContainer } from '../image/opened-container.js';
import { errorLine, ImgfsError } from '../lib/errors.js';
import { stemOf, uniqueNames } from '../tree/names.js';
import { CACHES, type MountOptions } from './options.js';
import { openOverlay } from './overlay.js';

/** What was named: an image, or a container with all its disks. */
export interface MountedHome {
  readonly named: HostFile;
  /** Closed by whoever closes the images, after them. */
  readonly container: OpenedContainer | undefined;
  readonly images: readonly MountedImage[];
}

/** An image of the mount. */
export interface MountedImage extends OpenedImage {
  /** The file it is known by: below an overlay, the image's own. */
  readonly named: HostFile;
  /** The file of the container it is in: its views belong to whom that belongs to. */
  readonly container?: HostFile | undefined;
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
export function openHomes(
  options: MountOptions,
  passphrases: Passphrases,
  warn: (message: string) => void,
): readonly MountedHome[] {
  const reading: OpenOptions = {
    formats,
    format: options.format,
    references: { follow: !options.noRefs, allowed: options.allowRefs },
    forceShare: options.forceShare,
    passphrases,
    warn,
  };
  const containers = new Map<string, OpenedContainer>();
  const closeContainers = (): void => {
    for (const container of containers.values()) container.close();
  };
  try {
    for (const path of options.images) {
      if (containers.has(path)) throw new ImgfsError('usage', `${path} is named twice`);
      const container = openContainer(path, reading);
      if (container !== undefined) containers.set(path, container);
    }
    const places = options.images.flatMap((path, home) => placesIn(home, path, containers.get(path)));
    const images =
      options.overlay === undefined
        ? openPlain(places, options, reading)
        : openOverlays(places, options, options.overlay, reading);
    return options.images.map((path, n) => {
      const own = images.filter((_, index) => places[index]?.home === n);
      const container = containers.get(path);
      return { named: container?.file ?? (own[0] as MountedImage).named, container, images: own };
    });
  } catch (error) {
    closeContainers();
    throw error;
  }
}

/** A disk that is to be opened. */
interface DiskPlace {
  /** Which of what was named it belongs to. */
  readonly home: number;
  readonly path: string;
  readonly container: OpenedContainer | undefined;
  /** Its number in the container, from 1. */
  readonly disk: number;
  /** What a file of its own would be called, without extension. */
  readonly stem: string;
}

function placesIn(home: number, path: string, container: OpenedContainer | undefined): readonly DiskPlace[] {
  const stem = stemOf(basename(path));
  if (container === undefined) return [{ home, path, container, disk: 1, stem }];
  const { disks } = container.container;
  if (disks.length === 0) throw new ImgfsError('missing', `${path} holds no disk`);
  return disks.map(({ name }, n) => {
    const own = stemOf(name);
    return { home, path, container, disk: n + 1, stem: own.startsWith(stem) ? own : `${stem}-${own}` };
  });
}

function openPlain(places: readonly DiskPlace[], options: MountOptions, reading: OpenOptions): readonly MountedImage[] {
  const { warn } = reading;
  const write = options.access === 'ro' ? undefined : writeAccess(options);
  const shared = write === undefined ? new Map<string, string>() : usedByOthers(options.images, reading);
  return openEach(places, (place) => {
    const { path, container } = place;
    if (container !== undefined) {
      if (write !== undefined && place.disk === 1) tellReadOnly(path, options.access === 'rw', warn);
      return mounted(container.openDisk(place.disk), container.file, options.snapshot, container.file);
    }
    const refusal = reasonToRead(options, shared.get(path));
    const opened = openOne(path, { ...reading, write }, options.access === 'rw', refusal, warn);
    return mounted(opened, opened.file, options.snapshot);
  });
}

/** Disks in a container are only read. Throws where the user insists. */
function tellReadOnly(path: string, insists: boolean, warn: (message: string) => void): void {
  const why = 'the disks of an appliance are only read: --overlay takes what is written';
  if (insists) throw new ImgfsError('read-only', `${path} cannot be mounted read-write: ${why}`);
  warn(`${path} is mounted read-only: ${why}`);
}

/** All or nothing. */
function openEach(
  places: readonly DiskPlace[],
  open: (place: DiskPlace, index: number) => MountedImage,
): readonly MountedImage[] {
  const opened: MountedImage[] = [];
  try {
    for (const [index, place] of places.entries()) opened.push(open(place, index));
    return opened;
  } catch (error) {
    for (const one of opened) one.close();
    throw error;
  }
}

function mounted(
  opened: OpenedImage,
  named: HostFile,
  snapshot: string | undefined,
  container?: HostFile,
): MountedImage {
  const close = (): void => opened.image.close();
  try {
    const shown = snapshot === undefined ? undefined : snapshotNamed(opened, snapshot);
    return { ...opened, named, container, shown, close };
  } catch (error) {
    close();
    throw error;
  }
}

/** Every image, or the snapshot asked for, below an overlay of its own. */
function openOverlays(
  disks: readonly DiskPlace[],
  options: MountOptions,
  overlay: string,
  reading: OpenOptions,
): readonly MountedImage[] {
  if (options.access === 'ro') {
    throw new ImgfsError('usage', 'an overlay is there to be written', { hint: 'leave out --overlay, or -r' });
  }
  if (options.snapshot !== undefined && overlay !== 'tmp') {
    throw new ImgfsError('usage', 'a snapshot can have a temporary overlay only', { hint: 'use --overlay tmp' });
  }
  const places = overlayPlaces(disks, overlay);
  return openEach(disks, ({ path, container, disk }, index) => {
    const base = container?.openDisk(disk) ?? openImage(path, reading);
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
      return { ...opened, named: base.file, container: container?.file, shown: undefined, close };
    } catch (error) {
      base.image.close();
      throw error;
    }
  });
}

/** One file for each image: in a directory they are called as the images are. */
function overlayPlaces(disks: readonly DiskPlace[], overlay: string): readonly string[] {
  if (overlay === 'tmp') return disks.map(() => overlay);
  if (fs.statSync(overlay, { throwIfNoEntry: false })?.isDirectory() === true) {
    const stems = disks.map(({ stem }) => stem);
    return uniqueNames(stems, '.qcow2').map((name) => join(overlay, name));
  }
  if (disks.length === 1) return [overlay];
  throw new ImgfsError('usage', 'several disks need a directory for their overlays', {
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
