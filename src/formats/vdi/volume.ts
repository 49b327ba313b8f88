import type { OpenContext } from '../../image/format.js';
import { Health } from '../../image/health.js';
import { ALONE } from '../../image/sharing.js';
import type { Storage } from '../../storage/storage.js';
import { BlockMap } from './block-map.js';
import type { Header } from './header.js';
import { type HeaderChanges, LiveHeader } from './live-header.js';

/** One opened image: its file, its header and its map. Opening reads the header only. */
export class Volume {
  readonly health: Health;
  readonly map: BlockMap;
  private readonly live: LiveHeader;

  constructor(
    readonly storage: Storage,
    { limits, sharing }: Pick<OpenContext, 'limits' | 'sharing'>,
  ) {
    const stamps = sharing ?? ALONE;
    this.health = new Health(sharing);
    this.live = new LiveHeader(storage, limits, stamps, this.health);
    this.map = new BlockMap(storage, this.live.now, limits, stamps, this.health);
  }

  /** As it is now, in all threads. */
  get header(): Header {
    if (this.live.catchUp()) this.map.adopt(this.live.now);
    return this.live.now;
  }

  change(changes: HeaderChanges): void {
    this.live.change(changes);
    this.map.adopt(this.live.now);
  }

  barrier(): void {
    this.health.barrier(this.storage);
  }
}
