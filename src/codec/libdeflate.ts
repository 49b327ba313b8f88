import { nativeLibrary } from '../lib/ffi.js';

/**
 * The host's libdeflate, where there is one: it decodes whole streams in half the time zlib takes. It says no (undefined)
 * to whatever is not one whole sound stream that fits; what that is then, zlib says.
 */
export interface LibDeflate {
  inflate(packed: Uint8Array, into: Uint8Array): number | undefined;
  inflateZlib(packed: Uint8Array, into: Uint8Array): number | undefined;
}

let loaded: LibDeflate | null | undefined;

/** Loaded at the first use, in each thread. */
export function libDeflate(): LibDeflate | undefined {
  if (loaded === undefined) loaded = bind() ?? null;
  return loaded ?? undefined;
}

function bind(): LibDeflate | undefined {
  const library = nativeLibrary('libdeflate.so.0');
  if (library === undefined) return undefined;
  // It holds tables, and serves one call at a time: for as long as its thread lives.
  const decompressor = library.func('void *libdeflate_alloc_decompressor(void)')();
  const parameters = 'void *with, const void *from, size_t size, void *into, size_t room, void *got';
  const raw = library.func(`int libdeflate_deflate_decompress(${parameters})`);
  const zlib = library.func(`int libdeflate_zlib_decompress(${parameters})`);
  const got = new BigUint64Array(1);
  const decode = (call: typeof raw, packed: Uint8Array, into: Uint8Array): number | undefined =>
    call(decompressor, packed, packed.length, into, into.length, got) === 0 ? Number(got[0]) : undefined;
  return {
    inflate: (packed, into) => decode(raw, packed, into),
    inflateZlib: (packed, into) => decode(zlib, packed, into),
  };
}
