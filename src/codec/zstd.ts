import zlib from 'node:zlib';
import { asBuffer } from '../lib/bits.js';
import { ImgfsError, systemCode } from '../lib/errors.js';
import { nativeLibrary } from '../lib/ffi.js';
import { readZstdFrame, type ZstdFrame } from './zstd-frame.js';

/** One implementation of zstd. */
export interface ZstdBackend {
  readonly name: 'node' | 'libzstd' | 'wasm';
  /** Decodes exactly one frame into `into`; bytes yielded, or undefined when damaged or larger than `into`. */
  decode(bytes: Uint8Array, frame: ZstdFrame, into: Uint8Array): number | undefined;
  /** Packs `plain` as one frame at `LEVEL` into `into`; its bytes, or undefined where it does not fit. */
  encode(plain: Uint8Array, into: Uint8Array): number | undefined;
}

/** What zstd calls its default, and QEMU takes. */
const LEVEL = 3;

/** Node's own zstd; its parameters are by number as in the library. */
interface NodeZstd {
  readonly zstdDecompressSync?: (bytes: Uint8Array, options: object) => Uint8Array;
  readonly zstdCompressSync?: (bytes: Uint8Array, options: object) => Uint8Array;
}

/** Node's own zstd (22.15 and later), or undefined. */
export function nodeZstd(): ZstdBackend | undefined {
  const { zstdDecompressSync: own, zstdCompressSync: compress } = zlib as NodeZstd;
  if (own === undefined || compress === undefined) return undefined;
  return {
    name: 'node',
    decode(bytes, _frame, into) {
      try {
        const plain = own(bytes, { chunkSize: Math.max(into.length + 1, 64), maxOutputLength: into.length });
        into.set(plain);
        return plain.length;
      } catch (error) {
        const code = systemCode(error) ?? '';
        if (code.startsWith('ZSTD_error') || code === 'ERR_BUFFER_TOO_LARGE' || code === 'Z_BUF_ERROR')
          return undefined;
        throw error;
      }
    },
    encode: (plain, into) => fitted(compress(plain, { chunkSize: plain.length + CHUNK_SLACK }), into),
  };
}

/** Node wants chunks of 64 bytes at least. */
const CHUNK_SLACK = 512;

function fitted(packed: Uint8Array, into: Uint8Array): number | undefined {
  if (packed.length > into.length) return undefined;
  into.set(packed);
  return packed.length;
}

/** The host's libzstd.so.1, or undefined where it or the FFI is missing. Errors come back as sizes near 2^64. */
export function libZstd(): ZstdBackend | undefined {
  const library = nativeLibrary('libzstd.so.1');
  if (library === undefined) return undefined;
  const decompress = library.func('size_t ZSTD_decompress(void *into, size_t capacity, const void *from, size_t size)');
  const compress = library.func(
    'size_t ZSTD_compressCCtx(void *context, void *into, size_t capacity, const void *from, size_t size, int level)',
  );
  const makeContext = library.func('void *ZSTD_createCCtx()');
  // One for as long as the thread lives: its tables are larger than what is packed.
  let context: unknown;
  return {
    name: 'libzstd',
    decode(bytes, _frame, into) {
      const got = Number(decompress(into, into.length, bytes, bytes.length));
      return got <= into.length ? got : undefined;
    },
    encode(plain, into) {
      context ??= makeContext();
      const got = Number(compress(context, into, into.length, plain, plain.length, LEVEL));
      return got <= into.length ? got : undefined;
    },
  };
}

/** The WebAssembly build. It starts asynchronously and is synchronous from then on. */
export async function wasmZstd(): Promise<ZstdBackend> {
  const wasm = await import('@bokuweb/zstd-wasm');
  await wasm.init();
  return {
    name: 'wasm',
    decode(bytes, frame, into) {
      // It allocates what the frame claims to hold: a claim beyond the cluster must never reach it.
      if (frame.contentSize !== undefined && frame.contentSize > into.length) return undefined;
      try {
        const plain = wasm.decompress(asBuffer(bytes), { defaultHeapSize: into.length });
        if (plain.length > into.length) return undefined;
        into.set(plain);
        return plain.length;
      } catch {
        return undefined;
      }
    },
    encode: (plain, into) => fitted(wasm.compress(asBuffer(plain), LEVEL), into),
  };
}

let chosen: ZstdBackend | undefined;

/**
 * Makes every codec usable synchronously. Awaited once per thread before images are opened; it does nothing unless
 * this host has neither Node's zstd nor libzstd, when it starts the WebAssembly one.
 */
export async function prepareCodecs(): Promise<void> {
  chosen ??= nodeZstd() ?? libZstd() ?? (await wasmZstd());
}

/** Whether this process decodes with the WebAssembly build: only then must each further thread prepare its own. */
export function codecsNeedPreparing(): boolean {
  return chosen?.name === 'wasm';
}

/**
 * Decodes the one zstd frame `packed` begins with, ignoring what follows, and returns the bytes it yielded; undefined
 * when the frame is damaged, cut short or larger than `into`. Throws `system` where no implementation is at hand.
 */
export function zstdDecompress(packed: Uint8Array, into: Uint8Array, backend = ready()): number | undefined {
  const frame = readZstdFrame(packed);
  return frame === undefined ? undefined : backend.decode(packed.subarray(0, frame.length), frame, into);
}

/** Packs `plain` as one frame; undefined where that is not smaller. Throws as `zstdDecompress`. */
export function zstdCompress(plain: Uint8Array, backend = ready()): Uint8Array | undefined {
  const into = Buffer.allocUnsafeSlow(Math.max(0, plain.length - 1));
  const bytes = backend.encode(plain, into);
  return bytes === undefined ? undefined : into.subarray(0, bytes);
}

function ready(): ZstdBackend {
  chosen ??= nodeZstd() ?? libZstd();
  if (chosen === undefined) {
    throw new ImgfsError('system', 'zstd is not available in this process', { hint: 'install libzstd' });
  }
  return chosen;
}
