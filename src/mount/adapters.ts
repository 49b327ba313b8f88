import type { Adapter } from '../fuse/adapter.js';
import { ImgfsError } from '../lib/errors.js';
import type { AdapterChoice } from './options.js';

/**
 * The adapter to use, loaded only now. `auto` takes the kernel adapter and falls back to fuse-native only where the
 * platform or the FFI is missing: any other trouble would be the same there, and is better told.
 */
export async function chooseAdapter(choice: AdapterChoice, warn: (message: string) => void): Promise<Adapter> {
  if (choice !== 'fuse-native') {
    const { kernel } = await import('../fuse/kernel/index.js');
    const why = kernel.unavailable();
    if (why === undefined) return kernel;
    if (choice === 'kernel') throw unusable(kernel, why);
    warn(`using fuse-native: ${why}`);
  }
  const { fuseNative } = await import('../fuse/fuse-native/index.js');
  const why = fuseNative.unavailable();
  if (why !== undefined) throw unusable(fuseNative, why);
  return fuseNative;
}

function unusable(adapter: Adapter, why: string): ImgfsError {
  return new ImgfsError('system', `the ${adapter.name} adapter cannot work here: ${why}`);
}
