/** Finding the live mount that an image is in, from another process. */
import fs from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { ImgfsError } from '../lib/errors.js';
import { imageDirectories } from '../tree/names.js';
import { resolveMountpoint } from './mountpoint.js';
import { ourMountAt, ourMounts } from './mounts.js';
import { liveRecords, type MountRecord } from './records.js';

/** An image in a live mount. */
export interface ServedImage {
  readonly mountpoint: string;
  /** The image's directory in the mount; undefined where the mountpoint is a file, and only its disk is shown. */
  readonly home: string | undefined;
  /** The image's file; undefined in another user's mount. */
  readonly image: string | undefined;
}

/**
 * What `path` means in a live mount: a mountpoint, the directory of an image in a mount of several, or an image that a
 * mount writes. Undefined where it is nothing of that, or only read, or written through an overlay: then its file is
 * what counts. Throws `usage` for the mountpoint of several images.
 */
export function servedImage(path: string): ServedImage | undefined {
  return placeInMount(path) ?? writtenBy(path);
}

/** Where the image is mounted, in whatever way. */
export function mountpointOf(path: string): string | undefined {
  const real = realPath(path);
  const record = records().find(({ images }) => images.includes(real));
  return record && mountOf(record);
}

/** A mountpoint itself is not touched before it is known whose it is. */
function placeInMount(path: string): ServedImage | undefined {
  let place: string;
  try {
    place = resolveMountpoint(path);
  } catch {
    // Whoever opens it tells why it cannot be used.
    return undefined;
  }
  const top = [place, dirname(place)].find((one) => ourMountAt(one) !== undefined);
  if (top === undefined) return undefined;
  const record = records().find(({ device }) => device === ourMountAt(top)?.device);
  const images = record?.images ?? [];
  if (top === place && !isDirectory(place)) return { mountpoint: top, home: undefined, image: images[0] };
  if (fs.existsSync(join(place, 'info.json'))) {
    const index = top === place ? 0 : directoriesOf(images).indexOf(basename(place));
    return { mountpoint: top, home: place, image: images[index] };
  }
  if (top !== place) return undefined;
  throw new ImgfsError('usage', `${path} shows several images`, { hint: 'name one, or its directory there' });
}

function writtenBy(path: string): ServedImage | undefined {
  const image = realPath(path);
  const record = records().find((one) => !one.readOnly && !one.overlay && one.images.includes(image));
  if (record === undefined) return undefined;
  const mountpoint = mountOf(record);
  if (mountpoint === undefined) return undefined;
  const { images } = record;
  if (images.length > 1) {
    const home = join(mountpoint, directoriesOf(images)[images.indexOf(image)] ?? '');
    return { mountpoint, home, image };
  }
  return { mountpoint, home: isDirectory(mountpoint) ? mountpoint : undefined, image };
}

/** None where they cannot be had: that is for those to tell who need them. */
function records(): readonly MountRecord[] {
  try {
    return liveRecords();
  } catch (error) {
    if (error instanceof ImgfsError) return [];
    throw error;
  }
}

function mountOf({ device }: MountRecord): string | undefined {
  return ourMounts().find((mount) => mount.device === device)?.mountpoint;
}

function directoriesOf(images: readonly string[]): readonly string[] {
  return imageDirectories(images.map((image) => basename(image)));
}

function realPath(path: string): string {
  return fs.existsSync(path) ? fs.realpathSync(path) : path;
}

function isDirectory(path: string): boolean {
  return fs.statSync(path, { throwIfNoEntry: false })?.isDirectory() === true;
}
