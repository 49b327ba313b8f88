/** A new image that is filled before it gets its name. */
import { randomBytes } from 'node:crypto';
import type { Storage } from '../storage/storage.js';
import type { Reference } from './format.js';
import type { Image } from './image.js';
import { DEFAULT_LIMITS } from './limits.js';
import { NewFiles } from './new-files.js';
import { makeIn, type NewImage, openBelow, stored } from './new-image.js';
import type { OpenedImage } from './open.js';

export interface WantedImage extends Omit<NewImage, 'size' | 'progress'> {
  /** Guest bytes. */
  readonly size: number;
}

/**
 * A new image, open for writing, that nobody can find yet: `appear` or `discard` ends it. Until then what has its name
 * stays as it is, locked as by a writer. Nothing of it is durable before `appear`, but on a block device, which is
 * written where it is.
 */
export class FilledImage {
  readonly image: Image;
  private readonly files: NewFiles;

  /** Throws as `createImage`, having left nothing, and `refused` for a file with several names. */
  constructor(wanted: WantedImage) {
    const { path, format, formats, size, values } = wanted;
    const below = wanted.backing === undefined ? undefined : openBelow(wanted, wanted.backing);
    try {
      this.files = new NewFiles(path, { formats, told: () => {}, filled: true });
    } catch (error) {
      below?.image.close();
      throw error;
    }
    try {
      const parts = new Map<string, Storage>();
      const backing = wanted.backing && stored(wanted.backing, below);
      makeIn(this.files, wanted, { size, backing, values }, (name, storage) => parts.set(name, storage));
      this.image = format.open(this.files.storage, {
        writable: true,
        filling: true,
        limits: DEFAULT_LIMITS,
        warn: wanted.warn,
        randomBytes,
        openStorage: ({ name }) => found(parts.get(name), name),
        openImage: ({ name }: Reference) => found<OpenedImage>(below, name).image,
        modified: () => below?.file.mtimeSeconds,
      });
    } catch (error) {
      below?.image.close();
      this.files.discard();
      throw error;
    }
  }

  /** Makes it durable, then gives it its name. Where that throws, it is gone. */
  appear(): void {
    try {
      this.image.flush();
      this.image.close();
    } catch (error) {
      this.discard();
      throw error;
    }
    this.files.appear();
  }

  /** Ends the filling and returns the file, for whoever puts its bytes elsewhere: `discard` is still to be called. */
  finish(): Storage {
    this.image.flush();
    this.image.close();
    return this.files.storage;
  }

  /** It was never there. */
  discard(): void {
    try {
      this.image.close();
    } catch {
      // What could not be written is thrown away anyway.
    } finally {
      this.files.discard();
    }
  }
}

/** A new image names what it was made with. */
function found<T>(made: T | undefined, name: string): T {
  if (made === undefined) throw new Error(`the new image names ${name}, which it was not made with`);
  return made;
}
