import type { Preallocation } from '../../../image/image.js';
import type { LayerWriter, Placement, SnapshotWriter } from '../../../image/writer.js';
import type { Storage } from '../../../storage/storage.js';
import { SUBCLUSTERS } from '../layout.js';
import { place } from './place.js';
import { growL1, setSize } from './resize.js';
import { SnapshotChanges } from './snapshot-changes.js';
import type { Volume } from './volume.js';
import { zero } from './zero.js';

/** The write side of a qcow2 image: each verb has its own file, the order they rely on is in `volume.ts`. */
export class Qcow2Writer implements LayerWriter {
  readonly unit: number;
  readonly preallocations = ['metadata', 'falloc', 'full'] as const;
  readonly snapshots: SnapshotWriter;

  constructor(private readonly volume: Volume) {
    const { clusterSize, extended } = volume.live.now;
    this.unit = extended ? clusterSize / SUBCLUSTERS : clusterSize;
    this.snapshots = new SnapshotChanges(volume);
  }

  get ready(): boolean {
    return this.volume.ready;
  }

  prepare(): void {
    this.volume.catchUp();
    this.volume.prepare();
  }

  guard(storage: Storage, offset: number, length: number): void {
    this.volume.guard.check(storage, offset, length);
  }

  allocate(at: number, length: number): Placement {
    return place(this.volume, at, length);
  }

  zero(at: number, length: number, options: { readonly unmap: boolean }): number {
    return zero(this.volume, at, length, options.unmap);
  }

  publish(): void {
    this.volume.catchUp();
    this.volume.publish();
  }

  /** One barrier where nothing is pending, else two: data before the entries that lead to it. */
  flush(): void {
    this.volume.catchUp();
    this.volume.publish();
    this.volume.barrier();
  }

  reach(size: number): void {
    growL1(this.volume, size);
  }

  resize(size: number, preallocation: Preallocation): void {
    setSize(this.volume, size, preallocation);
  }

  finish(): void {
    this.volume.catchUp();
    if (!this.volume.ready) return;
    this.volume.settle();
    this.volume.barrier();
  }
}
