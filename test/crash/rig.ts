/** Files in memory and the way to open the image among them: what all runners drive a format through. */
import { formats } from '../../src/formats/index.js';
import type { ImageFormat, OpenContext, Reference } from '../../src/image/format.js';
import type { Image } from '../../src/image/image.js';
import { DEFAULT_LIMITS, type Limits } from '../../src/image/limits.js';
import type { QemuJudge, SampleFile } from '../../src/image/samples.js';
import { ImgfsError } from '../../src/lib/errors.js';
import type { MemoryStorage } from '../../src/storage/memory.js';
import type { Storage } from '../../src/storage/storage.js';
import { readAll } from '../support/images.js';
import { sampleKey } from '../support/samples.js';
import type { Found } from './timeline.js';
import type { PastDisk } from './world.js';

/** One file beside the image: its name as the image has it, and its format where it is an image itself. */
export interface RigFile {
  readonly name: string;
  readonly role: SampleFile['role'];
  readonly format?: string;
  readonly storage: MemoryStorage;
}

/** Small caches, so that what is in them gives way as in large images; and thousands of images open faster. */
const LIMITS: Limits = { ...DEFAULT_LIMITS, cacheBytes: 1024, unpackedBytes: 64 * 1024 };

/** How an image and its files are opened. The files are given each time: a crash state has its own. */
export class Rig {
  private blockSize: number | undefined;

  constructor(
    readonly format: ImageFormat,
    /** The image first. */
    readonly files: readonly RigFile[],
    readonly qemu: QemuJudge = 'nothing',
    private readonly beginsDirty = false,
  ) {}

  /** The image was dirty from the start and still is: only its data can be judged. One that does not open is not. */
  unrepaired(storages: readonly Storage[]): boolean {
    if (!this.beginsDirty) return false;
    try {
      const image = this.open(storages, false);
      image.close();
      return image.info.dirty;
    } catch (error) {
      if (error instanceof ImgfsError) return false;
      throw error;
    }
  }

  /** Opens the image over `storages`, which are in the order of `files` and belong to the caller. */
  open(storages: readonly Storage[], writable: boolean): Image {
    const [first] = storages;
    if (first === undefined) throw new Error('a rig without an image');
    return this.format.open(first, this.context(storages, writable));
  }

  /** The unit in which the image allocates. */
  unit(storages: readonly Storage[]): number {
    this.blockSize ??= this.measured(storages);
    return this.blockSize;
  }

  /** The context an image of this rig is opened with. */
  context(storages: readonly Storage[], writable: boolean): OpenContext {
    const find = (reference: Reference): readonly [RigFile, Storage] => {
      const index = this.files.findIndex(({ name }) => name === reference.name);
      const [file, storage] = [this.files[index], storages[index]];
      if (file === undefined || storage === undefined) throw new Error(`no file is called ${reference.name}`);
      return [file, storage];
    };
    return {
      writable,
      limits: LIMITS,
      key: sampleKey,
      openStorage: (reference) => find(reference)[1],
      openImage: (reference) => {
        const [file, storage] = find(reference);
        return imageFormat(reference.format ?? file.format ?? 'raw').open(storage, this.context(storages, false));
      },
    };
  }

  private measured(storages: readonly Storage[]): number {
    const image = this.open(storages, false);
    image.close();
    return image.blockSize;
  }
}

/** A format of the registry that holds one disk. */
export function imageFormat(name: string): ImageFormat {
  const found = formats.find((format) => format.name === name);
  if (found?.kind !== 'image') throw new Error(`${name} is no image format`);
  return found;
}

/** Everything an image shows. Snapshots must have names that differ. */
export function readEverything(image: Image): Found {
  const snapshots = new Map<string, PastDisk>();
  for (const { id, name } of image.snapshots()) {
    const past = image.openSnapshot(id);
    if (snapshots.has(name)) throw new Error(`two snapshots are called ${name}`);
    snapshots.set(name, { disk: readAll(past) });
    past.close();
  }
  return { disk: readAll(image), snapshots };
}
