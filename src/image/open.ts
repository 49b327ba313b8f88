/**
 * Opening images: probe, lock, driver, references through the gate. The main thread opens, and writes down the plan by
 * which another thread opens the same image again.
 */
import { ImgfsError } from '../lib/errors.js';
import type { Storage } from '../storage/storage.js';
import { type FileAccess, type HostFile, HostFiles } from './files.js';
import { accessOf, Follower } from './follower.js';
import type { ContainerFormat, Format, ImageFormat, Reference } from './format.js';
import type { GatePolicy } from './gate.js';
import type { Image } from './image.js';
import type { Passphrases } from './keys.js';
import { DEFAULT_LIMITS, type Limits } from './limits.js';
import type { PlacedMember } from './members.js';
import { OpenedContainer } from './opened-container.js';
import { guarded, type ImagePlan, shared } from './plan.js';
import { formatCalled, formatOf, identify, isGuessedRaw, openable } from './probe.js';
import { SharedImage } from './shared-image.js';
import { Sharing } from './sharing.js';

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
    const follower = new Follower((...below) => this.open(...below), this.files, this.options, way);
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

/** A format that an image declares and nobody knows is that image's doing, not a mistake on the command line. */
function assertKnown(file: HostFile, declared: string | undefined, formats: readonly Format[]): void {
  if (declared === undefined || formatCalled(formats, declared) !== undefined) return;
  throw new ImgfsError('unsupported', `${file.name} is declared as "${declared}", which imgfs does not know`);
}

function cannotWrite(file: HostFile, format: string): ImgfsError {
  return new ImgfsError('unsupported', `${file.name} is ${format}, which imgfs can only read`);
}
