/** A new image that is filled before it gets its name. */
import { randomBytes } from '../lib/random.js';
import type { Storage } from '../storage/storage.js';
import type { Reference } from './format.js';
import type { Image } from './image.js';
import { foundKey, type ImageKey, type KeyFinder } from './keys.js';
import { ONE_PASS } from './limits.js';
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
  private readonly parts = new Map<string, Storage>();
  private finished = false;

  /** Throws as `createImage`, having left nothing, and `refused` for a file with several names. */
  constructor(private readonly wanted: WantedImage) {
    const { path, formats, size, values } = wanted;
    const below = this.below();
    try {
      this.files = new NewFiles(path, { formats, filled: true });
    } catch (error) {
      below?.image.close();
      throw error;
    }
    try {
      const backing = wanted.backing && stored(wanted.backing, below);
      makeIn(this.files, wanted, { size, backing, values }, (name, storage) => this.parts.set(name, storage));
      this.image = this.open(true, below);
    } catch (error) {
      below?.image.close();
      this.files.discard();
      throw error;
    }
  }

  /**
   * The image is complete: nothing of it is changed any more. Returns its file, for whoever puts its bytes elsewhere;
   * `appear` or `discard` is still to be called. Where it throws, the image is gone.
   */
  finish(): Storage {
    if (this.finished) return this.files.storage;
    this.finished = true;
    try {
      this.image.flush();
      this.image.close();
      return this.files.storage;
    } catch (error) {
      this.files.discard();
      throw error;
    }
  }

  /** The finished image as whoever opens it will find it, from the medium where the host can do that. The caller closes it. */
  reopened(): Image {
    this.files.settle();
    const below = this.below();
    try {
      return this.open(false, below);
    } catch (error) {
      below?.image.close();
      throw error;
    }
  }

  /** Makes it durable, then gives it its name. Where that throws, it is gone. */
  appear(): void {
    this.finish();
    this.files.appear();
  }

  /** It was never there. */
  discard(): void {
    try {
      if (!this.finished) this.image.close();
    } catch {
      // What could not be written is thrown away anyway.
    } finally {
      this.files.discard();
    }
  }

  private below(): OpenedImage | undefined {
    const { wanted } = this;
    return wanted.backing === undefined ? undefined : openBelow(wanted, wanted.backing);
  }

  private open(writable: boolean, below: OpenedImage | undefined): Image {
    const { format, path, warn, passphrase } = this.wanted;
    return format.open(this.files.storage, {
      writable,
      filling: writable,
      limits: ONE_PASS,
      warn,
      randomBytes,
      key: (find) => passphrase && ownKey(path, passphrase(), find),
      openStorage: ({ name }) => found(this.parts.get(name), name),
      openImage: ({ name }: Reference) => found<OpenedImage>(below, name).image,
      modified: () => below?.file.mtimeSeconds,
    });
  }
}

function ownKey(path: string, passphrase: Uint8Array, find: KeyFinder): ImageKey {
  const bytes = new Uint8Array(foundKey(path, { of: () => passphrase }, find));
  return { bytes, release: () => bytes.fill(0) };
}

/** A new image names what it was made with. */
function found<T>(made: T | undefined, name: string): T {
  if (made === undefined) throw new Error(`the new image names ${name}, which it was not made with`);
  return made;
}
