/**
 * Opening images: probe, lock, driver, references through the gate. The main thread opens; the plan it writes down
 * lets another thread open the same image again from descriptors alone, with no path and no policy.
 */
import { ImgfsError } from '../lib/errors.js';
import { FileStorage, type OpenFile } from '../storage/file.js';
import type { Storage } from '../storage/storage.js';
import { type HostFile, HostFiles } from './files.js';
import type { Format, OpenContext, Reference } from './format.js';
import { type GatePolicy, openReference } from './gate.js';
import type { Image } from './image.js';
import { DEFAULT_LIMITS, type Limits } from './limits.js';
import { formatNamed, identify } from './probe.js';
import { unopenedImage, unopenedStorage } from './unopened.js';

export interface OpenOptions {
  readonly formats: readonly Format[];
  /** The format of the image the user names; undefined probes. */
  readonly format?: string | undefined;
  /** Which files the image may name; `unopened` does not even look for them. */
  readonly references: GatePolicy | 'unopened';
  /** Read although somebody writes. */
  readonly forceShare: boolean;
  readonly warn: (message: string) => void;
  readonly limits?: Limits;
}

/** How to open an image again elsewhere: structured-clone data. Descriptors stay with the main thread's image. */
export interface ImagePlan {
  readonly format: string;
  readonly file: OpenFile;
  readonly limits: Limits;
  readonly images: Readonly<Record<string, ImagePlan>>;
  readonly storages: Readonly<Record<string, OpenFile>>;
}

export interface OpenedImage {
  /** Owns everything below: closing it closes the files and ends the locks. */
  readonly image: Image;
  readonly file: HostFile;
  readonly plan: ImagePlan;
  /** The files of the chain, this image's own first. Only as long as the images that were followed. */
  readonly chain: readonly HostFile[];
}

/**
 * Opens the image at `path` with everything it names. Throws ImgfsError, having closed what it had opened.
 */
export function openImage(path: string, options: OpenOptions): OpenedImage {
  const files = new HostFiles(options.forceShare ? 'anyone' : 'no-writers', options.warn);
  return new Opening(files, options).open(files.open(path), options.format, []);
}

/** Opens an image again from a plan made by `openImage`, whose image must stay open meanwhile. */
export function reopenImage(plan: ImagePlan, formats: readonly Format[]): Image {
  const format = formatNamed(formats, plan.format);
  if (format.kind !== 'image') throw new Error(`${plan.format} cannot be opened`);
  const planned = <T>(table: Readonly<Record<string, T>>, reference: Reference): T => {
    const found = table[keyOf(reference)];
    if (found === undefined) throw new Error(`${reference.name} is not in the plan`);
    return found;
  };
  return format.open(new FileStorage(plan.file), {
    writable: false,
    limits: plan.limits,
    openStorage: (reference) => new FileStorage(planned(plan.storages, reference)),
    openImage: (reference) => reopenImage(planned(plan.images, reference), formats),
  });
}

function keyOf(reference: Reference): string {
  return `${reference.role}:${reference.name}`;
}

/** One call of `openImage`: what all images of the chain share. */
class Opening {
  private readonly limits: Limits;

  constructor(
    private readonly files: HostFiles,
    private readonly options: OpenOptions,
  ) {
    this.limits = options.limits ?? DEFAULT_LIMITS;
  }

  /** `above` are the files on the way from the user's image to this one: a file among them again is a loop. */
  open(file: HostFile, declared: string | undefined, above: readonly HostFile[]): OpenedImage {
    const storage = this.files.storage(file);
    try {
      if (above.some((other) => other.identity === file.identity)) {
        throw new ImgfsError('refused', `${file.name} is among its own backing files`);
      }
      if (above.length >= this.limits.chainDepth) {
        throw new ImgfsError('limit', `${file.name} is image ${above.length + 1} of its chain`, {
          hint: `the limit is ${this.limits.chainDepth}`,
        });
      }
      if (above.length > 0) assertKnown(file, declared, this.options.formats);
      const format = identify({ storage, formats: this.options.formats, declared, device: file.device });
      const follower = new Follower(
        this,
        this.files,
        this.options.references,
        [...above, file],
        declared !== undefined,
      );
      const image = format.open(storage, follower.context(this.limits));
      const { images, storages } = follower;
      const plan = { format: format.name, file: shared(file), limits: this.limits, images, storages };
      return { image, file, plan, chain: [file, ...follower.chain] };
    } catch (error) {
      storage.close();
      throw error;
    }
  }
}

/** The context one image gets, recording in passing what its references led to. */
class Follower {
  readonly images: Record<string, ImagePlan> = {};
  readonly storages: Record<string, OpenFile> = {};
  chain: readonly HostFile[] = [];

  constructor(
    private readonly opening: Opening,
    private readonly files: HostFiles,
    private readonly references: OpenOptions['references'],
    private readonly path: readonly HostFile[],
    private readonly declared: boolean,
  ) {}

  context(limits: Limits): OpenContext {
    return {
      writable: false,
      limits,
      openStorage: (reference) => this.openStorage(reference),
      openImage: (reference) => this.openImage(reference),
    };
  }

  private openStorage(reference: Reference): Storage {
    if (this.references === 'unopened') return unopenedStorage(reference);
    const file = this.follow(reference, this.references);
    const storage = this.files.storage(file);
    if (this.path.some((other) => other.identity === file.identity)) {
      storage.close();
      throw new ImgfsError('refused', `${file.name} is named as a part of itself`);
    }
    this.storages[keyOf(reference)] = shared(file);
    return storage;
  }

  private openImage(reference: Reference): Image {
    if (this.references === 'unopened') return unopenedImage(reference);
    const opened = this.opening.open(this.follow(reference, this.references), reference.format, this.path);
    this.images[keyOf(reference)] = opened.plan;
    this.chain = opened.chain;
    return opened.image;
  }

  private follow(reference: Reference, gate: GatePolicy): HostFile {
    const from = this.path[this.path.length - 1];
    if (from === undefined) throw new Error('a reference needs a file that names it');
    // A file that another image names without saying its format may have been written by a guest: it may be read,
    // but what it names in turn was perhaps chosen by that guest.
    if (!this.declared && this.path.length > 1) {
      throw new ImgfsError('refused', `${from.name} was named without its format and names "${reference.name}"`, {
        hint: 'record the formats in the images (qemu-img rebase -u -F)',
      });
    }
    return this.files.openedByGate(openReference(reference, from, gate));
  }
}

/** A format that an image declares and nobody knows is that image's doing, not a mistake on the command line. */
function assertKnown(file: HostFile, declared: string | undefined, formats: readonly Format[]): void {
  if (declared === undefined || formats.some(({ name }) => name === declared)) return;
  throw new ImgfsError('unsupported', `${file.name} is declared as "${declared}", which imgfs does not know`);
}

/** The part of a file that other threads may know. */
function shared(file: HostFile): OpenFile {
  return { fd: file.fd, name: file.name, size: file.size, writable: file.writable };
}
