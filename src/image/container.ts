/** Containers: files that hold several disks, each of which is an image of its own that is opened in place. */

import type { Reference } from './format.js';
import type { Json } from './image.js';

/** Where a part of a file lies: a range of the container itself, or all of a file that the container names. */
export type Part =
  | { readonly at: number; readonly length: number; readonly reference?: undefined }
  | { readonly reference: Reference };

/** A file that belongs to a container: the parts in order are its bytes. */
export interface ContainedFile {
  readonly name: string;
  readonly parts: readonly Part[];
  /** The parts are what its bytes were packed into. */
  readonly packed?: 'gzip' | undefined;
}

/** A disk in a container. */
export interface ContainedDisk extends ContainedFile {
  /** A file that it needs, and that the container does not have: it cannot be opened. */
  readonly missing?: string | undefined;
  /** Guest bytes, as the container says; undefined where it does not. */
  readonly capacity: number | undefined;
  /** The image format that the container says it has; undefined where it is to be looked at. */
  readonly format: string | undefined;
}

/** What a container holds, as it says itself. Plain data: nothing stays open but the storage it was read from. */
export interface Container {
  /** In the container's order. Names may be equal, and are hostile. */
  readonly disks: readonly ContainedDisk[];
  /** Every file there is, or should be, but for the two below: packed and cut ones as they are stored. */
  readonly files: readonly ContainedFile[];
  /** The document that describes it all. */
  readonly descriptor: { readonly name: string; readonly bytes: Buffer };
  /** Digests of the files, and who vouches for them: where they lie, if they are there at all. */
  readonly manifest: ContainedFile | undefined;
  readonly certificate: ContainedFile | undefined;
  /** What is in it and not offered, and why. */
  readonly passedOver: readonly { readonly name: string; readonly why: string }[];
  /** What the container itself tells of its content, under keys of ours. */
  readonly info: { readonly [key: string]: Json };
}
