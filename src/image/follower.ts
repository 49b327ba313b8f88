/** Where the references of one image lead: through the gate, and nowhere that policy does not allow. */
import { ImgfsError } from '../lib/errors.js';
import { randomBytes } from '../lib/random.js';
import type { OpenFile } from '../storage/file.js';
import type { Storage } from '../storage/storage.js';
import { combinedName } from './combined-name.js';
import { isOwnExtent, liesBeside } from './extent-files.js';
import { type FileAccess, type HostFile, type HostFiles, READ_ONLY } from './files.js';
import type { OpenContext, Reference } from './format.js';
import { type GatePolicy, openReference } from './gate.js';
import type { Image } from './image.js';
import { foundKey, type ImageKey, type KeyFinder } from './keys.js';
import type { Limits } from './limits.js';
import type { OpenedImage, OpenOptions, WriteAccess } from './open.js';
import { type ImagePlan, keyOf, shared } from './plan.js';
import { findReference } from './search.js';
import type { Sharing } from './sharing.js';
import { unopenedImage, unopenedStorage } from './unopened.js';

/** Opens an image that another one names; `above` are the files on the way from the user's image to this one. */
type OpenBelow = (file: HostFile, declared: string | undefined, above: readonly HostFile[]) => OpenedImage;

/** The context one image gets, recording in passing what its references led to. */
export class Follower {
  readonly images: Record<string, ImagePlan> = {};
  readonly storages: Record<string, OpenFile> = {};
  key: SharedArrayBuffer | undefined;
  chain: readonly HostFile[] = [];
  private readonly dates = new Map<string, number>();

  constructor(
    private readonly openBelow: OpenBelow,
    private readonly files: HostFiles,
    private readonly options: Pick<
      OpenOptions,
      'references' | 'write' | 'below' | 'withoutBelow' | 'passphrases' | 'warn' | 'progress'
    >,
    private readonly way: {
      readonly path: readonly HostFile[];
      readonly declared: boolean;
      /** What the image is called, where it lies within a file: that has no directory to look in. */
      readonly within: string | undefined;
    },
  ) {}

  context(limits: Limits, sharing: Sharing | undefined): OpenContext {
    return {
      writable: this.naming.writable,
      limits,
      sharing,
      randomBytes,
      standIns: this.options.references === 'unopened' || this.options.withoutBelow === true,
      warn: this.options.warn,
      progress: this.options.progress,
      key: (find) => this.findKey(find),
      openStorage: (reference) => this.openStorage(reference),
      openImage: (reference) => this.openImage(reference),
      modified: (reference) => this.dates.get(keyOf(reference)),
    };
  }

  private findKey(find: KeyFinder): ImageKey | undefined {
    const { passphrases } = this.options;
    if (passphrases === undefined) return undefined;
    const memory = foundKey(this.naming.path, passphrases, find);
    this.key = memory;
    const bytes = new Uint8Array(memory);
    return { bytes, release: () => bytes.fill(0) };
  }

  private openStorage(reference: Reference): Storage {
    const { references } = this.options;
    if (references === 'unopened') return unopenedStorage(reference);
    const file = this.follow(reference, references, this.accessTo(reference));
    const storage = this.files.storage(file);
    if (file.writable && this.options.write?.references !== true && !liesBeside(file, this.naming)) {
      storage.close();
      throw this.mistrusted(reference);
    }
    if (this.way.path.some((other) => other.identity === file.identity)) {
      storage.close();
      throw new ImgfsError('refused', `${file.name} is named as a part of itself`);
    }
    this.storages[keyOf(reference)] = shared(file);
    return storage;
  }

  private openImage(reference: Reference): Image {
    const { references } = this.options;
    const { below, write, withoutBelow } = this.options;
    if (references === 'unopened' || withoutBelow === true) return unopenedImage(reference);
    const access = write?.below === this.way.path.length ? accessOf(write) : READ_ONLY;
    const opened =
      below !== undefined && this.way.path.length === 1
        ? below(reference)
        : this.openBelow(this.follow(reference, references, access), reference.format, this.way.path);
    this.images[keyOf(reference)] = opened.plan;
    this.chain = opened.chain;
    const [file] = opened.chain;
    if (file !== undefined) this.dates.set(keyOf(reference), file.mtimeSeconds);
    return opened.image;
  }

  /** The file whose references are followed. */
  private get naming(): HostFile {
    const file = this.way.path[this.way.path.length - 1];
    if (file === undefined) throw new Error('a reference needs a file that names it');
    return file;
  }

  /**
   * A file that holds the image's data is written with it, but only on the user's word: the image chose it. Extents
   * beside their descriptor and named like one are what such an image consists of.
   */
  private accessTo(reference: Reference): FileAccess {
    const { write } = this.options;
    if (!this.naming.writable || write === undefined) return READ_ONLY;
    if (write.references || isOwnExtent(reference)) return accessOf(write);
    throw this.mistrusted(reference);
  }

  private mistrusted(reference: Reference): ImgfsError {
    return new ImgfsError(
      'refused',
      `${this.naming.name} keeps its data in "${reference.name}", which it names itself`,
      {
        hint: 'if you trust it, add --writable-refs',
      },
    );
  }

  private follow(reference: Reference, gate: GatePolicy, access: FileAccess): HostFile {
    const from = this.naming;
    if (this.way.within !== undefined) {
      throw new ImgfsError('refused', `${this.way.within} names "${reference.name}", and lies in a container itself`, {
        hint: 'unpack the container to open it',
      });
    }
    // A file that another image names without saying its format may have been written by a guest: it may be read,
    // but what it names in turn was perhaps chosen by that guest.
    if (!this.way.declared && this.way.path.length > 1) {
      throw new ImgfsError('refused', `${from.name} was named without its format and names "${reference.name}"`, {
        hint: 'record the formats in the images (qemu-img rebase -u -F)',
      });
    }
    const { identity } = reference;
    const fd =
      identity === undefined
        ? openReference(reference, from, gate, access)
        : findReference(reference, identity, from, gate, access);
    return this.files.openedByGate(fd, combinedName(from.name, reference.name), access);
  }
}

/** How a file is opened that may be written so. */
export function accessOf(write: WriteAccess | undefined): FileAccess {
  return write === undefined ? READ_ONLY : { writable: true, direct: write.direct, unsafe: write.unsafe };
}
