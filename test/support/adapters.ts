import type { Adapter } from '../../src/fuse/adapter.js';
import { fuseNative } from '../../src/fuse/fuse-native/index.js';
import { kernel } from '../../src/fuse/kernel/index.js';
import { mountObstacle, unless } from './place.js';

/** Defines the same tests for every adapter, skipping those that cannot work on this machine at all. */
export function forEachAdapter(title: string, define: (adapter: Adapter, option: string) => void): void {
  for (const adapter of [kernel, fuseNative]) {
    describe(`${title}, adapter ${adapter.name}`, () => {
      unless(mountObstacle() ?? adapter.unavailable());
      define(adapter, `--adapter=${adapter.name}`);
    });
  }
}
