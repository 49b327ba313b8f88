import type { Health } from '../../image/health.js';
import type { LayerWriter, Placement } from '../../image/writer.js';
import { roundUp } from '../../lib/bits.js';
import { SECTOR } from '../../storage/cipher.js';
import type { LuksLayer } from './layer.js';

/** How many zeros are written at once. */
const MAX_ZEROS = 1024 * 1024;

/** Every sector lies where it belongs. Zeros are encrypted and written: a hole would read as anything. */
export class LuksWriter implements LayerWriter {
  readonly unit = MAX_ZEROS;
  readonly ready = true;

  constructor(
    private readonly layer: LuksLayer,
    private readonly health: Health,
  ) {}

  prepare(): void {}

  guard(): void {}

  allocate(): Placement {
    throw new Error('all of a LUKS disk is its own');
  }

  zero(): number {
    return 0;
  }

  publish(): void {}

  flush(): void {
    this.health.barrier(this.layer.plain);
  }

  reach(): void {}

  /** To whole sectors. What is new is written, as zeros: a container can have no holes. */
  resize(size: number): void {
    this.layer.plain.resize(roundUp(size, SECTOR));
    this.layer.resized();
    this.health.barrier(this.layer.plain);
  }

  finish(): void {
    this.health.barrier(this.layer.plain);
  }
}
