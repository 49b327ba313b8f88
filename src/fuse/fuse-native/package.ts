import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { ImgfsError, systemCode } from '../../lib/errors.js';
import { libc } from '../../lib/libc.js';
import type { Operations } from './operations.js';

/**
 * The instance of the package's class: only what we use of it, which is its translation between C and JavaScript.
 * Its own life cycle (mount, unmount, close) is never entered: it refuses file mountpoints and mountpoints that are
 * mounts already, and it unmounts lazily through a shell.
 */
export interface Translator {
  _thread: Buffer;
  _openCallback: ((error: Error | null) => void) | null;
  readonly _malloc: (size: number) => Buffer;
  readonly _handlers: readonly unknown[];
  _getImplementedArray(): Uint32Array;
}

type TranslatorClass = new (mountpoint: string, operations: Operations, options: { timeout: false }) => Translator;

/** The native half. Both calls must come from the main thread. */
export interface Binding {
  readonly sizeof_fuse_thread_t: number;
  /** Mounts and starts the threads that serve. Strings past 1023 bytes are cut without a word. */
  fuse_native_mount(
    mountpoint: string,
    options: string,
    thread: Buffer,
    self: Translator,
    malloc: (size: number) => Buffer,
    handlers: readonly unknown[],
    implemented: Uint32Array,
  ): void;
  /** Unmounts nothing: lets the event loop end although the mount was served. */
  fuse_native_unmount(mountpoint: string, thread: Buffer): void;
}

/** The loaded npm package. */
export interface Package {
  readonly Translator: TranslatorClass;
  readonly binding: Binding;
}

let loaded: Package | undefined;

/**
 * Loads fuse-native, and libfuse 2 from inside the package where the system has none. Throws `system` with the reason
 * when either cannot be had; a later call tries again.
 */
export function loadPackage(): Package {
  loaded ??= load(locate());
  return loaded;
}

function locate(): string {
  try {
    return createRequire(import.meta.url).resolve('fuse-native');
  } catch (error) {
    throw new ImgfsError('system', 'the npm package fuse-native is not installed', {
      hint: 'npm install fuse-native, or use --adapter kernel',
      cause: error,
    });
  }
}

function load(entry: string): Package {
  const requireBeside = createRequire(entry);
  const attempt = (): Package => ({
    Translator: requireBeside(entry) as TranslatorClass,
    // The same cached addon that the package has loaded for itself.
    binding: (requireBeside('node-gyp-build') as (directory: string) => Binding)(dirname(entry)),
  });
  try {
    return attempt();
  } catch (error) {
    if (!lacksLibfuse(error)) throw notLoadable(error);
    try {
      loadBundledLibfuse(entry);
      return attempt();
    } catch (second) {
      throw second instanceof ImgfsError ? second : notLoadable(second);
    }
  }
}

function lacksLibfuse(error: unknown): boolean {
  return error instanceof Error && systemCode(error) === 'ERR_DLOPEN_FAILED' && error.message.includes('libfuse.so.2');
}

/**
 * The addon asks for `libfuse.so.2` by name and has no search path to the copy beside it. The dynamic linker takes a
 * library that is loaded already and calls itself so (its SONAME) for the one asked for, so loading the copy is enough.
 */
function loadBundledLibfuse(entry: string): void {
  const hint = 'install libfuse2 (libfuse2t64 on newer Debian and Ubuntu), or use --adapter kernel';
  const library = join(dirname(entry), 'prebuilds', `${process.platform}-${process.arch}`, 'libfuse.so');
  if (!existsSync(library)) throw new ImgfsError('system', 'fuse-native needs libfuse.so.2', { hint });
  const calls = libc();
  if (calls === undefined) {
    throw new ImgfsError('system', 'fuse-native needs libfuse.so.2, and its own copy cannot be loaded without koffi', {
      hint,
    });
  }
  calls.loadGlobal(library);
}

function notLoadable(error: unknown): ImgfsError {
  const [first] = (error instanceof Error ? error.message : String(error)).split('\n');
  return new ImgfsError('system', `fuse-native cannot be loaded on ${process.platform}-${process.arch}: ${first}`, {
    hint: 'use --adapter kernel',
    cause: error,
  });
}
