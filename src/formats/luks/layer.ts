import type { PlainView } from '../../image/encrypted.js';
import type { ImageInfo } from '../../image/image.js';
import type { Layer, Mapping } from '../../image/mapping.js';
import type { Sharing } from '../../image/sharing.js';
import { roundDown } from '../../lib/bits.js';
import { SECTOR } from '../../storage/cipher.js';
import type { Storage } from '../../storage/storage.js';

/** The only thing that can change: the length. */
const LENGTH_STAMP = 0;

export interface LuksLayerParts {
  readonly info: ImageInfo;
  readonly writable: boolean;
  readonly sharing: Sharing | undefined;
}

/** One mapping for the whole disk: what follows the header, in whole sectors. */
export class LuksLayer implements Layer {
  readonly blockSize = SECTOR;
  readonly info: ImageInfo;
  /** The disk's bytes. */
  readonly plain: Storage;
  private length = 0;
  private stamp: number | undefined;

  /** Owns `storage` and `view`. */
  constructor(
    private readonly storage: Storage,
    private readonly view: PlainView,
    start: number,
    private readonly parts: LuksLayerParts,
  ) {
    this.info = parts.info;
    this.plain = view.at({ start });
    this.measure();
  }

  get size(): number {
    const { sharing } = this.parts;
    if (sharing !== undefined && sharing.stamp(LENGTH_STAMP) !== this.stamp) this.measure();
    return this.length;
  }

  /** Called under the exclusive lock, after the file's length changed. */
  resized(): void {
    this.parts.sharing?.bump(LENGTH_STAMP);
    this.measure();
  }

  map(at: number, length: number): Mapping {
    return { kind: 'data', length, storage: this.plain, offset: at, ours: this.parts.writable };
  }

  hostBytes(): number {
    return this.storage.allocated();
  }

  close(): void {
    this.view.close();
    this.storage.close();
  }

  private measure(): void {
    this.stamp = this.parts.sharing?.stamp(LENGTH_STAMP);
    this.length = roundDown(this.plain.size(), SECTOR);
  }
}
