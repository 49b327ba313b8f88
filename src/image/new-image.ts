/** Making an image on the host: what lies below it, its size, its files, all or nothing. */
import fs from 'node:fs';
import { dirname, resolve } from 'node:path';
import { ImgfsError, systemCode } from '../lib/errors.js';
import { randomBytes } from '../lib/random.js';
import type { Storage } from '../storage/storage.js';
import type { CreateOptions, NewBacking, OptionValues } from './creation.js';
import { identityOf } from './files.js';
import type { Format, ImageFormat } from './format.js';
import { type GatePolicy, isPlainName } from './gate.js';
import { NewFiles } from './new-files.js';
import { type OpenedImage, openImage } from './open.js';

export interface NewImage {
  readonly path: string;
  readonly format: ImageFormat;
  /** Guest bytes; undefined takes the backing image's. */
  readonly size: number | undefined;
  readonly backing: WantedBacking | undefined;
  readonly values: OptionValues;
  /** Of an encrypted image. Throws `passphrase` where there is none. */
  readonly passphrase?: () => Uint8Array;
  /** What the backing image may name in turn. */
  readonly references: GatePolicy;
  readonly formats: readonly Format[];
  readonly warn: (message: string) => void;
  /** How much of it is written, from 0 to 1, as far as that can be told. */
  readonly progress: (part: number) => void;
}

/** What opening an image below needs to know. */
export type Below = Pick<NewImage, 'path' | 'references' | 'formats' | 'warn'>;

export interface WantedBacking {
  /** As it will be stored; looked up from the directory of the new image. */
  readonly name: string;
  readonly format: string;
  /** Whether it is opened to see that it is there and how large it is. */
  readonly open: boolean;
}

/**
 * Makes the image with all its files, in place of the one that has its name. Returns its size as it was asked for.
 * Throws what the format's creation throws, `usage` where no size is known, and `locked` or `refused` where what would
 * be replaced is in use or lies below the new image.
 */
export function createImage(wanted: NewImage): number {
  const below = wanted.backing?.open === true ? openBelow(wanted, wanted.backing) : undefined;
  try {
    const size = wanted.size ?? below?.image.size;
    if (size === undefined) {
      throw new ImgfsError('usage', `${wanted.path}: a new image needs a size`, {
        hint: 'name it last: imgfs create FILE SIZE',
      });
    }
    const files = new NewFiles(wanted.path, {
      formats: wanted.formats,
      told: (bytes) => wanted.progress(Math.min(1, bytes / Math.max(1, size))),
    });
    try {
      makeIn(files, wanted, { size, backing: wanted.backing && stored(wanted.backing, below), values: wanted.values });
    } catch (error) {
      files.discard();
      throw error;
    }
    files.appear();
    return size;
  } finally {
    below?.image.close();
  }
}

/** Makes the empty image in its files, which have no names yet. `made` is told of each file beside the image's own. */
export function makeIn(
  files: NewFiles,
  { path, format, passphrase = () => unsaid(path) }: Pick<NewImage, 'path' | 'format' | 'passphrase'>,
  options: CreateOptions,
  made: (name: string, storage: Storage) => void = () => {},
): void {
  if (format.creation === undefined) throw new Error(`${format.name} images cannot be made`);
  format.creation.create(files.storage, options, {
    fileName: files.fileName,
    makeStorage(name) {
      const storage = files.makeStorage(name);
      made(name, storage);
      return storage;
    },
    randomBytes,
    passphrase,
    processorTime,
    now: Math.floor(Date.now() / 1000),
  });
}

function unsaid(path: string): never {
  throw new ImgfsError('passphrase', `${path} shall be encrypted, and no passphrase was given`);
}

function processorTime(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
}

/** What lies below, as the new image stores it. */
export function stored({ name, format }: WantedBacking, opened: OpenedImage | undefined): NewBacking {
  return { name, format, image: opened?.image, modified: opened?.file.mtimeSeconds };
}

/** Opens what will lie below. Throws `refused` where that is the very file to be replaced, at any depth. */
export function openBelow(wanted: Below, backing: WantedBacking): OpenedImage {
  const { references, formats, warn } = wanted;
  const path = resolveBacking(wanted.path, backing.name);
  let opened: OpenedImage;
  try {
    opened = openImage(path, { formats, format: backing.format, references, forceShare: false, warn });
  } catch (error) {
    if (!(error instanceof ImgfsError) || error.reason !== 'locked') throw error;
    throw new ImgfsError('locked', error.message, { hint: NOT_OPENED, cause: error });
  }
  const own = identityIfThere(wanted.path);
  if (opened.chain.some(({ identity }) => identity === own)) {
    opened.image.close();
    throw new ImgfsError('refused', `${wanted.path} would lie above itself: "${backing.name}" needs it`);
  }
  return opened;
}

/** When what shall lie below is not looked for. */
const NOT_OPENED = 'with -u and a size it is not opened';

/** Where whoever opens the image will look for what lies below it: from the directory it is named in, then from the one it is in. */
export function resolveBacking(image: string, name: string, unopened = NOT_OPENED): string {
  if (!isPlainName(name)) {
    throw new ImgfsError('refused', `the backing file "${name}" is not a plain file`, {
      hint: unopened,
    });
  }
  const directories = [resolve(dirname(image))];
  try {
    directories.push(dirname(fs.realpathSync(image)));
  } catch (error) {
    if (systemCode(error) === undefined) throw error;
  }
  const found = directories.map((directory) => resolve(directory, name)).find((path) => fs.existsSync(path));
  if (found !== undefined) return found;
  throw new ImgfsError('missing', `the backing file "${name}" does not exist`, {
    hint: `looked in ${[...new Set(directories)].join(' and ')}`,
  });
}

/** The identity of the file of that name; undefined where there is none, or none that could be a disk. */
export function identityIfThere(path: string): string | undefined {
  try {
    return identityOf(path);
  } catch (error) {
    if (error instanceof ImgfsError || systemCode(error) !== undefined) return undefined;
    throw error;
  }
}
