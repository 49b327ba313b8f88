/**
 * Opening images: probe, lock, driver, references through the gate. The main thread opens; the plan it writes down
 * lets another thread open the same image again from descriptors alone, with no path and no policy.
 */
import { randomBytes } from 'node:crypto';
import { ImgfsError } from '../lib/errors.js';
import { fileStorage } from '../storage/direct.js';
import type { OpenFile } from '../storage/file.js';
import type { Storage } from '../storage/storage.js';
import { combinedName } from './combined-name.js';
import { isOwnExtent, liesBeside } from './extent-files.js';
import { type FileAccess, type HostFile, HostFiles, READ_ONLY } from './files.js';
import type { ContainerFormat, Format, ImageFormat, OpenContext, Reference } from './format.js';
import { type GatePolicy, openReference } from './gate.js';
import { GuessedRaw } from './guessed.js';
import type { Image } from './image.js';
import { foundKey, type ImageKey, type KeyFinder, type Passphrases } from './keys.js';
import { DEFAULT_LIMITS, type Limits } from './limits.js';
import { type MemberPlan, type PlacedMember, reopenMember } from './members.js';
import { OpenedContainer } from './opened-container.js';
import { formatCalled, formatNamed, formatOf, identify, isGuessedRaw, openable } from './probe.js';
import { findReference } from './search.js';
import { SharedImage } from './shared-image.js';
import { Sharing } from './sharing.js';
import { unopenedImage, unopenedStorage } from './unopened.js';

export interface OpenOptions {
  readonly formats: readonly Format[];
  /** The format of the image the user names; undefined probes. */
  readonly format?: string | undefined;
  /**
   * Which disk of a container, by its number; an image has no others. `first` takes an image as it is. By default a
   * container is refused: it is not one disk.
   */
  readonly disk?: number | 'first' | undefined;
  /** Which files the image may name; `unopened` does not even look for them. */
  readonly references: GatePolicy | 'unopened';
  /** Read although somebody writes. */
  readonly forceShare: boolean;
  /** Open the image for writing, and of what lies below it only what this names; by default all is only read. */
  readonly write?: WriteAccess | undefined;
  /** What lies below the image is not looked for: nothing of it can be read. */
  readonly withoutBelow?: boolean;
  /** What lies below the image, whatever it names: called instead of following its reference. */
  readonly below?: ((reference: Reference) => BelowImage) | undefined;
  /** Who is asked where an image is encrypted; without it such an image opens, but its contents cannot be had. */
  readonly passphrases?: Passphrases | undefined;
  readonly warn: (message: string) => void;
  /** How far a repair has come that the first change waits for. */
  readonly progress?: ((part: number) => void) | undefined;
  readonly limits?: Limits;
}

/** An open image to lie below another one, and its plan. The chain is its files, its own first. */
export type BelowImage = Pick<OpenedImage, 'image' | 'plan' | 'chain'>;

export interface WriteAccess {
  /** Files the image names to hold its data may be written too. */
  readonly references: boolean;
  /** Past the host's page cache. */
  readonly direct: boolean;
  /** Flushes do nothing. */
  readonly unsafe: boolean;
  /** Other threads will open the image again and use it at the same time. */
  readonly threads: boolean;
  /** The layer so far below the image (1 is what lies below it) is opened for writing too. */
  readonly below?: number;
}

/** How to open an image again elsewhere: structured-clone data. Descriptors stay with the main thread's image. */
export interface ImagePlan {
  readonly format: string;
  readonly file: OpenFile;
  /** Where in files it lies, of a disk in a container; by default it is all of its file. */
  readonly within?: MemberPlan | undefined;
  /** Nothing but a lack of other claims says that it is raw. */
  readonly guessedRaw: boolean;
  /** Not the disk itself but this snapshot of it. */
  readonly snapshot?: string | undefined;
  /** What its threads share, where it is written by several. */
  readonly sharing: SharedArrayBuffer | undefined;
  readonly limits: Limits;
  /** The key of an encrypted image. The main thread's image wipes it when it closes. */
  readonly key?: SharedArrayBuffer | undefined;
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
 * Opens the image at `path` with everything it names. Throws ImgfsError, having closed what it had opened. With `write`
 * it opens for writing or throws.
 */
export function openImage(path: string, options: OpenOptions): OpenedImage {
  return openFrom(options, (files, access) => files.open(path, access));
}

/** As `openImage`, but for a container, which is opened as a whole. The file is opened once. */
export function openAny(path: string, options: OpenOptions): OpenedImage | OpenedContainer {
  const files = new HostFiles(options.forceShare ? 'anyone' : 'no-writers', options.warn);
  return new Opening(files, options).openAny(files.open(path), options.format);
}

/** As `openImage`, of a file without a name that anybody should use. Takes ownership of the descriptor. */
export function openMade(fd: number, name: string, options: OpenOptions): OpenedImage {
  return openFrom(options, (files, access) => files.made(fd, name, access));
}

function openFrom(options: OpenOptions, open: (files: HostFiles, access: FileAccess) => HostFile): OpenedImage {
  const files = new HostFiles(options.forceShare ? 'anyone' : 'no-writers', options.warn);
  return new Opening(files, options).open(open(files, accessOf(options.write)), options.format, []);
}

/**
 * Opens the container at `path`; undefined where the file is an image, or cannot even be looked at: opening it as an
 * image then tells why. Throws ImgfsError.
 */
export function openContainer(path: string, options: OpenOptions): OpenedContainer | undefined {
  const files = new HostFiles(options.forceShare ? 'anyone' : 'no-writers', () => {});
  const opening = new Opening(files, { ...options, write: undefined });
  let storage: Storage | undefined;
  try {
    const file = files.open(path);
    storage = files.storage(file);
    const { formats, format: declared } = options;
    if (formatOf({ storage, formats, declared, device: file.device }).kind !== 'container') return undefined;
    const opened = opening.openAny(files.again(file), declared);
    return opened instanceof OpenedContainer ? opened : undefined;
  } catch (error) {
    // What a container cannot be opened for is told by whoever opens one of its disks, in the same words.
    if (!(error instanceof ImgfsError)) throw error;
    return undefined;
  } finally {
    storage?.close();
  }
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
  const sharing = plan.sharing === undefined ? undefined : new Sharing(plan.sharing);
  const file = plan.within === undefined ? fileStorage(plan.file) : reopenMember(plan.within);
  const storage = guarded(file, plan.guessedRaw, formats);
  const image = format.open(storage, {
    writable: plan.file.writable,
    limits: plan.limits,
    sharing,
    randomBytes,
    key: () => lent(plan.key),
    openStorage: (reference) => fileStorage(planned(plan.storages, reference)),
    openImage: (reference) => reopenImage(planned(plan.images, reference), formats),
  });
  if (plan.snapshot !== undefined) return image.openSnapshot(plan.snapshot);
  return sharing === undefined ? image : new SharedImage(image, sharing);
}

/** The main thread wipes it. */
function lent(key: SharedArrayBuffer | undefined): ImageKey | undefined {
  return key && { bytes: new Uint8Array(key), release: () => {} };
}

/** Only what is written needs guarding. */
function guarded(storage: Storage, guessedRaw: boolean, formats: readonly Format[]): Storage {
  return guessedRaw && storage.writable ? new GuessedRaw(storage, formats) : storage;
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
      const format = this.formatOf(file, storage, declared, above);
      if (format.kind === 'container') return this.diskOf(file, storage, format);
      return this.openAs(openable(storage, format), { file, storage, declared, above });
    } catch (error) {
      storage.close();
      throw error;
    }
  }

  /** Takes over one use of the file. */
  openAny(file: HostFile, declared: string | undefined): OpenedImage | OpenedContainer {
    const storage = this.files.storage(file);
    try {
      const format = this.formatOf(file, storage, declared, []);
      if (format.kind === 'container') return this.openedContainer(file, storage, format);
      return this.openAs(openable(storage, format), { file, storage, declared, above: [] });
    } catch (error) {
      storage.close();
      throw error;
    }
  }

  private formatOf(file: HostFile, storage: Storage, declared: string | undefined, above: readonly HostFile[]): Format {
    const { formats } = this.options;
    if (above.length > 0) assertKnown(file, declared, formats);
    const format = formatOf({ storage, formats, declared, device: file.device });
    // Below an image or in a container lies one disk, never several to choose from.
    if (format.kind === 'container' && above.length > 0) openable(storage, format);
    return format;
  }

  private openAs(format: ImageFormat, { file, storage, declared, above, member }: ToOpen): OpenedImage {
    const { formats } = this.options;
    if (file.writable && !format.can.write) throw cannotWrite(file, format.name);
    if (typeof this.options.disk === 'number' && above.length === 0 && member === undefined) {
      throw new ImgfsError('usage', `${file.name} is a disk, not several to choose from`, { hint: 'leave out --disk' });
    }
    const guessedRaw = isGuessedRaw(format, { storage, declared });
    const sharing = file.writable && this.options.write?.threads === true ? new Sharing() : undefined;
    const way = { path: [...above, file], declared: declared !== undefined, within: member?.plan.name };
    const follower = new Follower(this, this.files, this.options, way);
    const context = follower.context(this.limits, sharing);
    const image = format.open(guarded(storage, guessedRaw, formats), context);
    const { images, storages, key } = follower;
    return {
      image: sharing === undefined ? image : new SharedImage(image, sharing),
      file,
      plan: {
        format: format.name,
        file: shared(file),
        within: member?.plan,
        guessedRaw,
        sharing: sharing?.buffer,
        limits: this.limits,
        key,
        images,
        storages,
      },
      chain: [file, ...(member?.files ?? []).filter((other) => other !== file), ...follower.chain],
    };
  }

  /** Takes over the storage. */
  private openedContainer(file: HostFile, storage: Storage, format: ContainerFormat): OpenedContainer {
    const { references } = this.options;
    return new OpenedContainer({
      file,
      storage,
      format: format.name,
      container: format.open(storage),
      files: this.files,
      policy: references === 'unopened' ? NOTHING : references,
      openFile: (disk, declared, above) => this.open(disk, declared, above),
      openPlaced: (own, declared, member) => this.openMember(own, declared, member),
    });
  }

  /** Takes over the member's storage. */
  private openMember(file: HostFile, declared: string | undefined, member: PlacedMember): OpenedImage {
    const { storage } = member;
    try {
      const { formats } = this.options;
      assertKnown(file, declared, formats);
      const format = identify({ storage, formats, declared, device: false });
      return this.openAs(format, { file, storage, declared, above: [], member });
    } catch (error) {
      storage.close();
      throw error;
    }
  }

  /** The one disk that is asked for, which stays open without its container. */
  private diskOf(file: HostFile, storage: Storage, format: ContainerFormat): OpenedImage {
    if (file.writable) throw cannotWrite(file, format.name);
    const opened = this.openedContainer(file, storage, format);
    const { disk: wanted } = this.options;
    // Only when it is known to be sound: otherwise what is wrong with it is the better answer.
    if (wanted === undefined) openable(storage, format);
    const disk = opened.openDisk(typeof wanted === 'number' ? wanted : 1);
    opened.close();
    return disk;
  }
}

/** An image that is about to be opened. */
interface ToOpen {
  readonly file: HostFile;
  readonly storage: Storage;
  readonly declared: string | undefined;
  readonly above: readonly HostFile[];
  readonly member?: PlacedMember | undefined;
}

const NOTHING: GatePolicy = { follow: false, allowed: [] };

/** The context one image gets, recording in passing what its references led to. */
class Follower {
  readonly images: Record<string, ImagePlan> = {};
  readonly storages: Record<string, OpenFile> = {};
  key: SharedArrayBuffer | undefined;
  chain: readonly HostFile[] = [];
  private readonly dates = new Map<string, number>();

  constructor(
    private readonly opening: Opening,
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
        : this.opening.open(this.follow(reference, references, access), reference.format, this.way.path);
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

/** A format that an image declares and nobody knows is that image's doing, not a mistake on the command line. */
function assertKnown(file: HostFile, declared: string | undefined, formats: readonly Format[]): void {
  if (declared === undefined || formatCalled(formats, declared) !== undefined) return;
  throw new ImgfsError('unsupported', `${file.name} is declared as "${declared}", which imgfs does not know`);
}

function accessOf(write: WriteAccess | undefined): FileAccess {
  return write === undefined ? READ_ONLY : { writable: true, direct: write.direct, unsafe: write.unsafe };
}

function cannotWrite(file: HostFile, format: string): ImgfsError {
  return new ImgfsError('unsupported', `${file.name} is ${format}, which imgfs can only read`);
}

/** The part of a file that other threads may know. */
function shared({ fd, name, size, writable, direct = false, unsafe = false }: HostFile): OpenFile {
  return { fd, name, size, writable, direct, unsafe };
}
