import type { DataServer, Ino } from '../fuse/adapter.js';
import type { Image } from '../image/image.js';
import { ImgfsError } from '../lib/errors.js';
import type { ViewSource } from '../tree/tree.js';
import type { Modifications } from './measures.js';

const NOTHING = new Uint8Array();

export interface ViewsParts {
  /** What each view shows. May change while the mount lives. */
  readonly sources: ReadonlyMap<Ino, ViewSource>;
  /** Opens an image at the first use of one of its views; it stays its owner's. */
  readonly openImage: (index: number) => Image;
  /** Every write is durable before it returns. */
  readonly through: boolean;
  readonly modifications: Modifications;
  /** Brings `sources` up to date, on a thread that is not told of changes otherwise. */
  readonly update?: () => void;
}

/**
 * The bytes of the raw views, on one thread. Images are opened at the first use of one of their views and each view
 * once; both stay open until `close`.
 */
export class Views implements DataServer {
  private readonly images: (Image | undefined)[] = [];
  private readonly opened: (Image | undefined)[] = [];
  /** Opened for one view only. */
  private readonly owned = new Map<Ino, Image>();

  constructor(private readonly parts: ViewsParts) {}

  serves(ino: Ino): boolean {
    const { sources, update } = this.parts;
    if (sources.has(ino)) return true;
    update?.();
    return sources.has(ino);
  }

  read(ino: Ino, into: Uint8Array, at: number): number {
    const view = this.opened[ino] ?? this.open(ino);
    const length = Math.max(0, Math.min(into.length, view.size - at));
    if (length > 0) view.read(length === into.length ? into : into.subarray(0, length), at);
    return length;
  }

  seek(ino: Ino, at: number, want: 'data' | 'hole'): number | undefined {
    const view = this.view(ino);
    let from = at;
    while (from < view.size) {
      const extent = view.extent(from, view.size - from);
      if (extent.zero === (want === 'hole')) return from;
      from += extent.length;
    }
    // The end of a file counts as a hole, but not as a place to seek from.
    return want === 'hole' && at < view.size ? view.size : undefined;
  }

  /** A view is a disk: it has its size, and no write moves its end. */
  write(ino: Ino, from: Uint8Array, at: number): number {
    const view = this.writable(ino);
    const length = Math.min(from.length, view.size - at);
    if (length <= 0 && from.length > 0) throw new ImgfsError('no-space', 'a write beyond the end of the disk');
    if (length > 0) view.write(length === from.length ? from : from.subarray(0, length), at);
    this.parts.modifications.add();
    if (this.parts.through) view.flush();
    return length;
  }

  zero(ino: Ino, at: number, length: number, options: { readonly unmap: boolean }): number {
    const view = this.writable(ino);
    const done = Math.max(0, Math.min(length, view.size - at));
    if (done > 0) view.zero(at, done, options);
    this.parts.modifications.add();
    if (this.parts.through) view.flush();
    return done;
  }

  flush(ino: Ino): void {
    const view = this.view(ino);
    if (view.writable) view.flush();
  }

  /** An image whose tables or flushes failed takes no further write, not even one of nothing. */
  verify(ino: Ino): void {
    const view = this.view(ino);
    if (view.writable) view.overwrite(NOTHING, 0);
  }

  /** The image a view shows. It stays the views' own. */
  view(ino: Ino): Image {
    return this.opened[ino] ?? this.open(ino);
  }

  /** Closes what was opened for a view that is about to be no more. */
  forget(ino: Ino): void {
    this.owned.get(ino)?.close();
    this.owned.delete(ino);
    this.opened[ino] = undefined;
  }

  /** Closes what was opened for single views; the images themselves stay their owner's. */
  close(): void {
    for (const image of this.owned.values()) image.close();
    this.owned.clear();
    this.opened.length = 0;
  }

  private writable(ino: Ino): Image {
    const view = this.view(ino);
    // The top layer shows the same image, but one view of it is enough to write to.
    if (view.writable && this.parts.sources.get(ino)?.kind === 'active') return view;
    throw new ImgfsError('read-only', 'this view cannot be written');
  }

  private open(ino: Ino): Image {
    const source = this.parts.sources.get(ino);
    if (source === undefined) throw new ImgfsError('missing', `there is no view ${ino}`);
    this.images[source.image] ??= this.parts.openImage(source.image);
    const image = this.images[source.image] as Image;
    const view = this.select(image, ino, source);
    this.opened[ino] = view;
    return view;
  }

  private select(image: Image, ino: Ino, source: ViewSource): Image {
    if (source.kind === 'active') return image;
    if (source.kind === 'layer') return chainOf(image)[source.depth] as Image;
    const own = source.kind === 'snapshot' ? image.openSnapshot(source.id) : image.openVmState(source.id);
    this.owned.set(ino, own);
    return own;
  }
}

/** The layers of an image, base first, the image itself last. */
export function chainOf(image: Image): readonly Image[] {
  return image.backing === undefined ? [image] : [...chainOf(image.backing), image];
}
