import type { Health } from '../../image/health.js';
import type { Sharing } from '../../image/sharing.js';
import type { LayerWriter, Placement } from '../../image/writer.js';
import type { Storage } from '../../storage/storage.js';
import { LENGTH_STAMP, type RawLayer } from './layer.js';

/** How many zeros are written at once where space is to be kept. */
const MAX_ZEROS = 1024 * 1024;

/** Every byte of a raw disk lies where it belongs: nothing is ever placed, and there is no table to keep in order. */
export class RawWriter implements LayerWriter {
  readonly unit = MAX_ZEROS;
  readonly ready = true;

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
    if (!options.unmap) return 0;
    this.storage.discard(at, length);
    return length;
  }

  publish(): void {}

  flush(): void {
    this.health.barrier(this.storage);
  }

  reach(): void {}

  resize(size: number): void {
    this.storage.resize(size);
    this.layer.measure();
    this.sharing?.bump(LENGTH_STAMP);
    this.layer.measure();
    this.health.barrier(this.storage);
  }

  finish(): void {
    this.health.barrier(this.storage);
  }
}
