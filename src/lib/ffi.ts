/** The one file that loads the FFI (koffi), by which functions of shared libraries are called. */
import { createRequire } from 'node:module';

/** A function of a library. */
export type Native = (...values: readonly unknown[]) => number;

/** `async` runs it in a thread of its own and then calls the last value. */
export type Bound = Native & { async(...values: readonly unknown[]): void };

/** What is used of koffi. */
export interface Ffi {
  load(path: string | null, options?: { global?: boolean; lazy?: boolean }): { func(signature: string): Bound };
  errno(): number;
  address(buffer: Uint8Array): bigint;
}

/** A shared library whose functions are bound by their C declarations. A 64-bit result may be a bigint: wrap it. */
export interface NativeLibrary {
  func(signature: string): (...values: readonly unknown[]) => number | bigint;
}

/** Throws where it is not installed, or not for this machine. In the bundled program this line is another (scripts/bundle.ts). */
export function loadFfi(): Ffi {
  return createRequire(import.meta.url)('koffi') as Ffi;
}

/** Loads a shared library by the name the dynamic linker knows; undefined where it or the FFI is missing. */
export function nativeLibrary(name: string): NativeLibrary | undefined {
  try {
    return loadFfi().load(name);
  } catch {
    return undefined;
  }
}
