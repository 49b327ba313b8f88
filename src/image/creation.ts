/** Making an image: the options its format declares, what it is given, and what it may ask of the outside. */
import type { Storage } from '../storage/storage.js';
import type { Extent, Image, ImageInfo } from './image.js';

/** How the value of an option is written: a size may have a suffix, a flag is `on` or `off`. */
export type OptionKind = 'size' | 'number' | 'flag' | 'choice' | 'text';
export type OptionValue = string | number | boolean;

/**
 * An option of `imgfs create -o`, under the name that qemu-img gives it: a row of the help, and the typed key to its
 * value. Made by the functions below; a format declares each once.
 */
export interface CreateOption<T extends OptionValue | undefined = OptionValue | undefined> {
  readonly name: string;
  readonly kind: OptionKind;
  /** One line for `-o help`. */
  readonly summary: string;
  /** The values there are, of a choice. */
  readonly choices?: readonly string[];
  /** What counts where nothing is given. */
  readonly fallback: T;
}

/** A number of bytes. */
export function sizeOption(name: string, summary: string): CreateOption<number | undefined>;
export function sizeOption(name: string, summary: string, fallback: number): CreateOption<number>;
export function sizeOption(name: string, summary: string, fallback?: number): CreateOption<number | undefined> {
  return { name, kind: 'size', summary, fallback };
}

/** A number, not negative. */
export function numberOption(name: string, summary: string): CreateOption<number | undefined>;
export function numberOption(name: string, summary: string, fallback: number): CreateOption<number>;
export function numberOption(name: string, summary: string, fallback?: number): CreateOption<number | undefined> {
  return { name, kind: 'number', summary, fallback };
}

/** On or off. Without a `fallback` it is told apart whether the user said so. */
export function flagOption(name: string, summary: string): CreateOption<boolean | undefined>;
export function flagOption(name: string, summary: string, fallback: boolean): CreateOption<boolean>;
export function flagOption(name: string, summary: string, fallback?: boolean): CreateOption<boolean | undefined> {
  return { name, kind: 'flag', summary, fallback };
}

/** One of several words, compared as they are. */
export function choiceOption<C extends string>(
  name: string,
  summary: string,
  choices: readonly C[],
  fallback: NoInfer<C>,
): CreateOption<C> {
  return { name, kind: 'choice', summary, choices, fallback };
}

/** Any text, never empty. */
export function textOption(name: string, summary: string): CreateOption<string | undefined> {
  return { name, kind: 'text', summary, fallback: undefined };
}

/** The values a user gave, by name; each is of its option's kind and among its choices. */
export class OptionValues {
  constructor(private readonly given: ReadonlyMap<string, OptionValue> = new Map()) {}

  get<T extends OptionValue | undefined>(option: CreateOption<T>): T {
    // Whoever filled the map has read the text by the option's kind.
    return (this.given.get(option.name) ?? option.fallback) as T;
  }
}

/** What lies below a new image. */
export interface NewBacking {
  /** The name as the image shall store it. */
  readonly name: string;
  readonly format: string;
  /** Open for reading, and its owner's. Undefined where the user wants it left alone. */
  readonly image: Image | undefined;
  /** When its file was changed last, in seconds since 1970. Undefined with `image`. */
  readonly modified: number | undefined;
}

/** What a new image shall be. */
export interface CreateOptions {
  /** Guest bytes as the user said; the format rounds up to what it can hold. */
  readonly size: number;
  /** Only for formats whose creation says that they take one. */
  readonly backing?: NewBacking | undefined;
  readonly values: OptionValues;
}

/** What making an image may ask of the outside. Equal answers make equal images. */
export interface CreateContext {
  /** The file name the image will have, without its directory: descriptors name their extents after it. */
  readonly fileName: string;
  /**
   * Another file that belongs to the image, empty. `name` is what the image stores for it: looked up from the image's
   * directory. It is its maker's, who closes it, and appears under its name only when the whole image is complete.
   * Throws `exists` for a file that is no part of an image being replaced, and what the host answers.
   */
  makeStorage(name: string): Storage;
  /** For UUIDs and content ids. */
  randomBytes(count: number): Buffer;
  /**
   * What shall open an encrypted image. Asked for once, and only where one is made; wiped by its owner. Throws
   * `passphrase` where there is none.
   */
  passphrase(): Uint8Array;
  /** Milliseconds of processor time this process has used: how long it takes to guess a passphrase is measured. */
  processorTime(): number;
  /** For headers that carry a date, in seconds since 1970. */
  readonly now: number;
}

/** A disk that a new image would hold, for `measure`. */
export interface MeasuredDisk {
  /** Whole sectors. */
  readonly size: number;
  /** Those of the whole disk, in order. */
  extents(): Iterable<Extent>;
  readonly bitmaps: ImageInfo['bitmaps'];
}

/** Bytes that a new image takes on the host. */
export interface Measured {
  /** With what the disk holds now. */
  readonly required: number;
  /** With every byte of the disk written. */
  readonly full: number;
  /** For copies of the disk's persistent bitmaps; undefined where the disk's format or the new one has none. */
  readonly bitmaps?: number;
}

/** How images of a format are made. */
export interface Creation {
  /** Besides `size`, `backing_file` and `backing_fmt`, which are everybody's. In the order of the help. */
  readonly options: readonly CreateOption[];
  /** Whether an image may lie above another one. */
  readonly backing: boolean;
  /**
   * Makes an empty disk in an empty storage (length 0; what it grows by reads as zeros), which stays its owner's.
   * Durable on return, other files of the image included. Throws `usage` for values that contradict each other,
   * `unsupported`, `limit` and what the storage throws; what it has written then is thrown away.
   */
  create(storage: Storage, options: CreateOptions, context: CreateContext): void;
  /**
   * What an image made with these options takes, empty or with a disk in it, as qemu-img tells it. There where
   * qemu-img tells it. Throws `usage` and `limit`.
   */
  measure?(options: CreateOptions, disk: MeasuredDisk | undefined): Measured;
}
