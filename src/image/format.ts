import type { Storage } from '../storage/storage.js';
import type { Amending } from './amending.js';
import type { Bitmaps } from './bitmaps.js';
import type { Checking, CheckOptions } from './check.js';
import type { Container } from './container.js';
import type { Creation } from './creation.js';
import type { Image } from './image.js';
import type { ImageKey, KeyFinder } from './keys.js';
import type { Limits } from './limits.js';
import type { Sharing } from './sharing.js';

/** Bytes at each end of a file that probing may look at. */
export const PROBE_BYTES = 64 * 1024;

/** How a file is told that an image knows by what it is, not by where it lies. */
export interface Identity {
  /** Lower case, with the dot: only files named so are looked at, beside the image and where the user allows it. */
  readonly extension: string;
  /** How many bytes from the start of a file `matches` needs. */
  readonly bytes: number;
  /** Whether that is how the file begins. Throws ImgfsError where it is the file, but must not be used. */
  matches(head: Buffer): boolean;
}

/** A file that an image names: what it is for, and the name exactly as the image stores it. */
export interface Reference {
  readonly role: 'backing' | 'data-file' | 'extent' | 'parent' | 'member';
  readonly name: string;
  /** The format the image declares for it. Without one it is probed, and may then name nothing further itself. */
  readonly format?: string | undefined;
  /** Set where `name` is no name of a file but, for people, what the file says it is. */
  readonly identity?: Identity | undefined;
}

/** Everything a driver may ask of the outside. Whatever it returns is owned by the driver's image, which closes it. */
export interface OpenContext {
  readonly writable: boolean;
  /** The image is new, empty, and nobody else can find it until it is closed: what is written only once can be written. */
  readonly filling?: boolean;
  readonly limits: Limits;
  /** Set where other threads have the same image open and one of them may write. */
  readonly sharing?: Sharing | undefined;
  /** What the two methods return has a name and can be closed, nothing else: the image is only looked at. */
  readonly standIns?: boolean;
  /** Says what whoever opens the image should know of it. */
  readonly warn?: ((message: string) => void) | undefined;
  /** Told, often, how far what the first change has to wait for has come: from 0 to 1. */
  readonly progress?: ((part: number) => void) | undefined;
  /** For content ids that change with the content. Without it they are derived from what the image holds. */
  randomBytes?(count: number): Buffer;
  /**
   * The key of this image, where it is encrypted: `find` turns the passphrase into it, and is not called where the key
   * is known already. Undefined, as without the method, where nobody asks for the contents: the image then opens all
   * the same, and reading or writing throws `noPassphrase`. Throws `passphrase`, and what `find` throws.
   */
  key?(find: KeyFinder): ImageKey | undefined;
  /** Opens a file the image names, if policy allows it. Throws `refused`, `missing`, `permission`, `locked`. */
  openStorage(reference: Reference): Storage;
  /** Opens an image the image names, if policy allows it. As `openStorage`, and anything opening an image throws. */
  openImage(reference: Reference): Image;
  /**
   * When the file that `openImage` opened for a reference was changed last, in seconds since 1970: what headers that
   * carry a date are compared with. Undefined where nobody looked: it was not opened, or was looked at by the thread
   * that opened it first.
   */
  modified?(reference: Reference): number | undefined;
}

interface Recognised {
  readonly name: string;
  /** One line for `imgfs formats`. */
  readonly summary: string;
  /** Lower case, with the dot. A file so named that turns out to be another format is refused. */
  readonly extensions: readonly string[];
  /**
   * Whether the file is of this format. Pure; must not throw on any bytes; must not depend on other formats.
   * `head` and `tail` are the first and last PROBE_BYTES of the file, shorter (and overlapping) in short files.
   */
  probe(head: Buffer, tail: Buffer, size: number): boolean;
  /**
   * How many bytes from the start of such a file are the format's own structures, never a guest's data. A partition
   * table or a file system there means that the file is two things at once. Only called where `probe` was true; must
   * not throw. Formats whose guest data begins at once (a trailer marks them) leave it out.
   */
  ownBytes?(head: Buffer): number;
}

/** A driver: one disk in one file (and the files it names). One folder, one line in `formats/index.ts`. */
export interface ImageFormat extends Recognised {
  readonly kind: 'image';
  readonly can: {
    readonly write: boolean;
    readonly create: boolean;
    readonly snapshots: boolean;
    readonly resize: boolean;
  };
  /**
   * Opens a disk. All or nothing: when it throws, everything it opened is closed again. The image owns `storage`.
   * Never does work in proportion to the guest's size. Throws `corrupt`, `truncated`, `unsupported`, `limit` and what
   * the context throws.
   */
  open(storage: Storage, context: OpenContext): Image;
  /** How such images are made; there where `can.create`. */
  readonly creation?: Creation;
  /** What begins with the image's LUKS header and holds its key slots; undefined where it has none. */
  keySlots?(storage: Storage, limits: Limits): Storage | undefined;
  /** Persistent bitmaps; there where the format has them. */
  readonly bitmaps?: Bitmaps;
  /** How an existing image is amended; there where it can be. */
  readonly amending?: Amending;
  /** Checks the structure, and mends it where asked, in steps that throw as `open`. The storage stays the caller's. */
  check?(storage: Storage, context: OpenContext, options: CheckOptions): Checking;
}

/** A driver of files that hold several disks. It says where they lie; whoever opens them does so as with any image. */
export interface ContainerFormat extends Recognised {
  readonly kind: 'container';
  /**
   * Reads what the container holds. The storage stays the caller's. Throws `corrupt`, `truncated`, `unsupported`,
   * `limit`, `missing` and `refused`.
   */
  open(storage: Storage): Container;
}

/** A format we can name but not open yet: never mistaken for raw, always refused with its name. */
export interface KnownFormat extends Recognised {
  readonly kind: 'known';
}

export type Format = ImageFormat | ContainerFormat | KnownFormat;
