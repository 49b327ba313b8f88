import type { ImageInfo } from '../../image/image.js';
import type { Layer, Mapping } from '../../image/mapping.js';
import type { Sharing } from '../../image/sharing.js';
import type { Storage } from '../../storage/storage.js';

/** The only thing that can change: the length. */
export const LENGTH_STAMP = 0;

/** One mapping for the whole disk. Only a map of it asks the host for holes: a read never needs to know. */
export class RawLayer implements Layer {
  readonly blockSize = 4096;
  readonly info: ImageInfo = { format: 'raw', dirty: false, encrypted: false, compressed: false };
  private length: number;
  private stamp: number | undefined;

  constructor(
    private readonly storage: Storage,
    private readonly writable: boolean,
    private readonly sharing: Sharing | undefined,
  ) {
    this.stamp = sharing?.stamp(LENGTH_STAMP);
    this.length = storage.size();
  }

  /** Asking the host each time would cost a system call per read. */
  get size(): number {
    if (this.sharing !== undefined && this.sharing.stamp(LENGTH_STAMP) !== this.stamp) this.measure();
    return this.length;
  }

  /** Looks at the storage's length again. */
  measure(): void {
    this.stamp = this.sharing?.stamp(LENGTH_STAMP);
    this.length = this.storage.size();
  }

  map(at: number, length: number): Mapping {
    return { kind: 'data', length, storage: this.storage, offset: at, ours: this.writable };
  }

  mapInDetail(at: number, length: number): Mapping {
    const { storage } = this;
    const run = storage.extent(at);
    return { kind: run.data ? 'data' : 'zero', length: Math.min(run.length, length), storage, offset: at };
  }

  hostBytes(): number {
    return this.storage.allocated();
  }

  close(): void {
    this.storage.close();
  }
}
