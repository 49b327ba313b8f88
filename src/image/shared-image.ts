import { ImgfsError } from '../lib/errors.js';
import type { Storage } from '../storage/storage.js';
import type { Extent, Image, ImageInfo, NamedFile, Preallocation, Snapshot, SnapshotFacts } from './image.js';
import type { Sharing } from './sharing.js';

/**
 * An image that other threads have open too: the same image behind the readers-writer lock they share. Reads, and
 * writes to what the image already owns, run side by side; whatever may change a table runs alone, from its first
 * look at the tables on, because two threads filling one cluster must never both copy its old content.
 *
 * Readers of snapshots share tables with the active layer, so they take the same lock. The backing image is never
 * written and needs none.
 */
export class SharedImage implements Image {
  readonly blockSize: number;
  readonly backing: Image | undefined;
  readonly writable: boolean;
  /** Each thread keeps units it unpacked, and would not learn that their places hold others. */
  readonly packing = undefined;

  constructor(
    private readonly image: Image,
    private readonly sharing: Sharing,
  ) {
    this.blockSize = image.blockSize;
    this.backing = image.backing;
    this.writable = image.writable;
  }

  get size(): number {
    return this.shared(() => this.image.size);
  }

  get info(): ImageInfo {
    return this.image.info;
  }

  read(into: Uint8Array, at: number): void {
    const { sharing } = this;
    sharing.lockShared();
    try {
      this.image.read(into, at);
    } finally {
      sharing.unlockShared();
    }
  }

  extent(at: number, length: number): Extent {
    return this.shared(() => this.image.extent(at, length));
  }

  snapshots(): readonly Snapshot[] {
    return this.shared(() => this.image.snapshots());
  }

  openSnapshot(id: string): Image {
    return new SharedImage(
      this.shared(() => this.image.openSnapshot(id)),
      this.sharing,
    );
  }

  openVmState(id: string): Image {
    return new SharedImage(
      this.shared(() => this.image.openVmState(id)),
      this.sharing,
    );
  }

  write(from: Uint8Array, at: number): void {
    const done = this.overwrite(from, at);
    if (done === from.length) return;
    const rest = done === 0 ? from : from.subarray(done);
    this.alone(() => this.image.write(rest, at + done));
  }

  overwrite(from: Uint8Array, at: number): number {
    const { sharing } = this;
    sharing.lockShared();
    try {
      return this.image.overwrite(from, at);
    } finally {
      sharing.unlockShared();
    }
  }

  copyIn(source: Storage, from: number, at: number, length: number, share?: 'share'): number {
    return this.alone(() => this.image.copyIn(source, from, at, length, share));
  }

  writePacked(): void {
    throw new ImgfsError('unsupported', 'an image that threads share stores nothing packed');
  }

  zero(at: number, length: number, options: { readonly unmap: boolean }): void {
    this.alone(() => this.image.zero(at, length, options));
  }

  publish(): void {
    this.alone(() => this.image.publish());
  }

  flush(): void {
    this.alone(() => this.image.flush());
  }

  resize(size: number, preallocation?: Preallocation): void {
    this.alone(() => this.image.resize(size, preallocation));
  }

  empty(): void {
    this.alone(() => this.image.empty());
  }

  changeBacking(backing: NamedFile | undefined): void {
    this.alone(() => this.image.changeBacking(backing));
  }

  createSnapshot(name: Uint8Array, as?: SnapshotFacts): Snapshot {
    return this.alone(() => this.image.createSnapshot(name, as));
  }

  deleteSnapshot(id: string): void {
    this.alone(() => this.image.deleteSnapshot(id));
  }

  applySnapshot(id: string): void {
    this.alone(() => this.image.applySnapshot(id));
  }

  renameSnapshot(id: string, name: Uint8Array): void {
    this.alone(() => this.image.renameSnapshot(id, name));
  }

  hostBytes(): number {
    return this.image.hostBytes();
  }

  close(): void {
    this.alone(() => this.image.close());
  }

  private shared<T>(action: () => T): T {
    this.sharing.lockShared();
    try {
      return action();
    } finally {
      this.sharing.unlockShared();
    }
  }

  private alone<T>(action: () => T): T {
    this.sharing.lockExclusive();
    try {
      return action();
    } finally {
      this.sharing.unlockExclusive();
    }
  }
}
