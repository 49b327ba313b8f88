/** Starting imgfs where the FFI cannot be loaded, as on a platform koffi has no binary for. */
import type { Place } from './place.js';

const HOOK = `
  import Module from 'node:module';
  const load = Module._load;
  Module._load = (name, ...rest) => {
    if (/^(koffi|@koromix)/.test(name)) throw new Error('no FFI here');
    return load(name, ...rest);
  };`;

/** The environment for a process, and every Node process it starts, in which nothing can load the FFI. */
export function withoutFfi(here: Pick<Place, 'file'>): Readonly<Record<string, string>> {
  return { NODE_OPTIONS: `--import=${here.file('no-ffi.mjs', HOOK)}` };
}
