import type { Health } from '../../image/health.js';
import type { Preallocation } from '../../image/image.js';
import type { Sharing } from '../../image/sharing.js';
import type { LayerWriter, Placement } from '../../image/writer.js';
import { type Storage, writeZeros } from '../../storage/storage.js';
import { LENGTH_STAMP, type RawLayer } from './layer.js';

/** How many zeros are written at once where space is to be kept. */
const MAX_ZEROS = 1024 * 1024;

/** Every byte of a raw disk lies where it belongs: nothing is ever placed, and there is no table to keep in order. */
export class RawWriter implements LayerWriter {
  readonly unit = MAX_ZEROS;
  readonly ready = true;
  readonly preallocations = ['falloc', 'full'] as const;

  constructor(
    private readonly storage: Storage,
    private readonly layer: RawLayer,
    private readonly health: Health,
    private readonly sharing: Sharing | undefined,
  ) {}

  prepare(): void {}

  guard(): void {}

  allocate(): Placement {
    throw new Error('all of a raw disk is its own');
  }

  /** Holes need no unit: the host makes zeros of what it cannot punch. Kept space is overwritten with zeros. */
  zero(at: number, length: number, options: { readonly unmap: boolean }): number {
    // A disk about to grow: behind the end of the file there is nothing to be cleared.
    if (at >= this.layer.size) return length;
    if (!options.unmap) return 0;
    this.storage.discard(at, length);
    return length;
  }

  publish(): void {}

  flush(): void {
    this.health.barrier(this.storage);
  }

  reach(): void {}

  /** Should the host neither take the new part nor give it back, the disk has it, as every later look will find. */
  resize(size: number, preallocation: Preallocation): void {
    const old = this.storage.size();
    try {
      this.storage.resize(size);
      if (preallocation === 'falloc') this.storage.allocate(old, size - old);
      else if (preallocation === 'full') writeZeros(this.storage, old, size - old);
    } catch (error) {
      this.restore(old);
      throw error;
    } finally {
      this.layer.measure();
      this.sharing?.bump(LENGTH_STAMP);
      this.layer.measure();
    }
    this.health.barrier(this.storage);
  }

  finish(): void {
    this.health.barrier(this.storage);
  }

  private restore(size: number): void {
    try {
      this.storage.resize(size);
    } catch {
      // The first failure is the one to report.
    }
  }
}
