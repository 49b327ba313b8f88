/** Persistent bitmaps of an image, changed while nobody has it open. */
import type { Storage } from '../storage/storage.js';
import type { OpenContext } from './format.js';
import type { DirtyBitmap } from './image.js';
import type { Limits } from './limits.js';

/** A run of guest bytes. */
export interface GuestRange {
  readonly at: number;
  readonly length: number;
}

/** What a bitmap says has changed. */
export interface BitmapBits {
  readonly name: string;
  /** Of the disk it speaks of. */
  readonly size: number;
  /** Ascending; each as long as it can be. */
  ranges(): Iterable<GuestRange>;
}

/** What is done to a bitmap; of another name where a source in the same image is merged. */
export type BitmapAction =
  | { readonly kind: 'add' /** By default what the format prefers. */; readonly granularity?: number | undefined }
  | { readonly kind: 'remove' | 'clear' | 'enable' | 'disable' }
  | { readonly kind: 'merge'; readonly source: string | BitmapBits };

/** How a format keeps bitmaps. */
export interface Bitmaps {
  /** Throws `unsupported` for a version without. */
  list(storage: Storage, limits: Limits): readonly DirtyBitmap[];
  /** What a bitmap says; read while it is asked for. Throws `missing`, and `corrupt` for one that cannot be trusted. */
  bits(storage: Storage, limits: Limits, name: string): BitmapBits;
  /**
   * Does all of it to the bitmap of that name, or nothing; durable on return. Throws `exists`, `missing`, `usage` and
   * `limit`, and `corrupt` for a bitmap that cannot be trusted, which can only be removed.
   */
  change(storage: Storage, context: OpenContext, name: string, actions: readonly BitmapAction[]): void;
}
