import type { Health } from '../../image/health.js';
import type { LayerWriter, Placement } from '../../image/writer.js';
import { roundUp } from '../../lib/bits.js';
import { SECTOR } from '../../storage/cipher.js';
import type { LuksLayer } from './layer.js';

/** How many zeros are written at once. */
const MAX_ZEROS = 1024 * 1024;
/** How much a container grows by before that is made durable. */
const GROWTH = 64 * 1024 * 1024;

/** Every sector lies where it belongs. Zeros are encrypted and written: a hole would read as anything. */
export class LuksWriter implements LayerWriter {
  readonly unit = MAX_ZEROS;
  readonly ready = true;
  /** Nothing more than what happens anyway: what is new is written. */
  readonly preallocations = ['falloc', 'full'] as const;
  /** The file is longer than the disk that everybody knows. */
  private excess = false;

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
    this.cutExcess();
    this.health.barrier(this.layer.plain);
  }

  reach(): void {}

  /**
   * To whole sectors. What is new is written, as zeros: a container can have no holes. The length of the file is the
   * size, so a crash can leave any between the old and the new one; each step is durable before the next, so that only
   * the last one of them may read as noise then.
   */
  resize(size: number): void {
    const { plain } = this.layer;
    const [old, wanted] = [this.layer.size, roundUp(size, SECTOR)];
    const kept = Math.min(old, wanted);
    // Behind the disk there may be a part of a sector, which must not become one, or what an earlier growth left.
    if (plain.size() > kept) plain.resize(kept);
    this.excess = false;
    if (wanted > old) this.grow(old, wanted);
    this.layer.resized();
    this.health.barrier(plain);
  }

  finish(): void {
    this.cutExcess();
    this.health.barrier(this.layer.plain);
  }

  private grow(old: number, size: number): void {
    const { plain } = this.layer;
    try {
      for (let at = old; at < size; ) {
        at = Math.min(size, at + GROWTH);
        plain.resize(at);
        this.health.barrier(plain);
      }
    } catch (error) {
      this.excess = true;
      try {
        this.cutExcess();
      } catch {
        // The first failure is the one to report.
      }
      throw error;
    }
  }

  /** A growth that failed is taken back, now or as soon as the host lets it be. */
  private cutExcess(): void {
    if (!this.excess) return;
    this.layer.plain.resize(this.layer.size);
    this.excess = false;
  }
}
