/** Which images of a mount are opened for writing, and what is said where one is not. */
import { formats } from '../formats/index.js';
import { type OpenedImage, type OpenOptions, openImage, type WriteAccess } from '../image/open.js';
import { errorLine, ImgfsError } from '../lib/errors.js';
import { CACHES, type MountOptions } from './options.js';

/**
 * Opens every image of the options: for writing unless they say otherwise, and read-only, with one line saying why,
 * where that cannot be. Throws ImgfsError, having closed what it had opened; with `-o rw` also where an image cannot be
 * written.
 */
export function openImages(options: MountOptions, warn: (message: string) => void): readonly OpenedImage[] {
  const reading: OpenOptions = {
    formats,
    format: options.format,
    references: { follow: !options.noRefs, allowed: options.allowRefs },
    forceShare: options.forceShare,
    warn,
  };
  const write = wantsToWrite(options) ? writeAccess(options) : undefined;
  const shared = write === undefined ? new Map<string, string>() : usedByOthers(options.images, reading);
  const opened: OpenedImage[] = [];
  try {
    for (const path of options.images) {
      const refusal = reasonToRead(options, shared.get(path));
      opened.push(openOne(path, { ...reading, write }, options.access === 'rw', refusal, warn));
    }
    return opened;
  } catch (error) {
    for (const { image } of opened) image.close();
    throw error;
  }
}

/** Until every part of the way to the image file is there, only on the user's word. */
function wantsToWrite(options: MountOptions): boolean {
  return options.access === 'rw';
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
    if (!(error instanceof ImgfsError)) throw error;
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
      const { image, file, chain } = openImage(path, { ...options, warn: () => {} });
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
