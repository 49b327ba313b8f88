import type { NamedFile, Packing, Preallocation } from '../../../image/image.js';
import type { LayerWriter, Placement, SnapshotWriter } from '../../../image/writer.js';
import { ImgfsError } from '../../../lib/errors.js';
import type { Storage } from '../../../storage/storage.js';
import { SUBCLUSTERS } from '../layout.js';
import { changeBacking } from './backing.js';
import { condemn } from './condemn.js';
import { empty } from './empty.js';
import { writePacked } from './packed.js';
import { place } from './place.js';
import { growL1, setSize } from './resize.js';
import { SnapshotChanges } from './snapshot-changes.js';
import type { Volume } from './volume.js';
import { zero } from './zero.js';

/**
 * The write side of a qcow2 image: each verb has its own file, the order they rely on is in `volume.ts`. A verb that
 * meets a damaged table ends the writing of the image.
 */
export class Qcow2Writer implements LayerWriter {
  readonly unit: number;
  readonly preallocations = ['metadata', 'falloc', 'full'] as const;
  readonly snapshots: SnapshotWriter;

  constructor(private readonly volume: Volume) {
    const { clusterSize, extended } = volume.live.now;
    this.unit = extended ? clusterSize / SUBCLUSTERS : clusterSize;
    const changes = new SnapshotChanges(volume);
    this.snapshots = {
      create: (name, as) => this.trusting(() => changes.create(name, as)),
      delete: (id) => this.trusting(() => changes.delete(id)),
      apply: (id) => this.trusting(() => changes.apply(id)),
      rename: (id, name) => this.trusting(() => changes.rename(id, name)),
    };
  }

  get ready(): boolean {
    return this.volume.ready;
  }

  prepare(): void {
    this.volume.catchUp();
    this.volume.prepare();
  }

  /** What the guest's bytes go through, where they are encrypted, ends in the same file. */
  guard(_content: Storage, offset: number, length: number): void {
    this.trusting(() => this.volume.guard.check(this.volume.data, offset, length));
  }

  allocate(at: number, length: number): Placement {
    return this.trusting(() => place(this.volume, at, length));
  }

  get packing(): Packing | undefined {
    const { clusterSize, external, encryption, compression } = this.volume.live.now;
    if (external || encryption !== undefined) return undefined;
    return { unit: clusterSize, method: compression === 'zstd' ? 'zstd' : 'deflate', always: false };
  }

  writePacked(packed: Uint8Array, at: number): void {
    this.trusting(() => writePacked(this.volume, packed, at));
  }

  zero(at: number, length: number, options: { readonly unmap: boolean }): number {
    return this.trusting(() => zero(this.volume, at, length, options.unmap));
  }

  publish(): void {
    this.trusting(() => {
      this.volume.catchUp();
      this.volume.publish();
    });
  }

  /** One barrier where nothing is pending, else two: data before the entries that lead to it. */
  flush(): void {
    this.trusting(() => {
      this.volume.catchUp();
      this.volume.publish();
      const lengthened = this.volume.ready ? this.volume.reserve.lengthen() : undefined;
      this.volume.barrier();
      lengthened?.();
    });
  }

  reach(size: number): void {
    this.trusting(() => growL1(this.volume, size));
  }

  resize(size: number, preallocation: Preallocation): void {
    this.trusting(() => setSize(this.volume, size, preallocation));
  }

  empty(): void {
    this.trusting(() => empty(this.volume));
  }

  changeBacking(backing: NamedFile | undefined): void {
    this.trusting(() => {
      this.volume.catchUp();
      changeBacking(this.volume, backing);
    });
  }

  finish(): void {
    this.trusting(() => {
      this.volume.catchUp();
      if (!this.volume.ready) return;
      this.volume.settle();
      this.volume.barrier();
    });
  }

  /** Does what relies on the tables. */
  private trusting<T>(action: () => T): T {
    try {
      return action();
    } catch (error) {
      const { storage, live, health } = this.volume;
      if (error instanceof ImgfsError && error.reason === 'corrupt') condemn(storage, live, health, error);
      throw error;
    }
  }
}
