import { constants, deflateRawSync, deflateSync, inflateRawSync, inflateSync, type ZlibOptions } from 'node:zlib';
import { systemCode } from '../lib/errors.js';
import { libDeflate } from './libdeflate.js';

/**
 * Decodes one raw deflate stream into `into` and returns the bytes it yielded, or undefined when the stream is damaged
 * or would yield more than `into` holds. Bytes after the stream are ignored. A stream cut short yields what it
 * holds: whoever knows the expected length compares.
 *
 * One output chunk of the expected size: zlib's default of 16 KiB costs several passes and a copy per cluster.
 */
export function inflate(packed: Uint8Array, into: Uint8Array): number | undefined {
  return libDeflate()?.inflate(packed, into) ?? decoded(inflateRawSync, packed, into);
}

/** As `inflate`, of a stream with zlib's own header and checksum (RFC 1950). */
export function inflateZlib(packed: Uint8Array, into: Uint8Array): number | undefined {
  return libDeflate()?.inflateZlib(packed, into) ?? decoded(inflateSync, packed, into);
}

function decoded(
  decode: (packed: Uint8Array, options: ZlibOptions) => Buffer,
  packed: Uint8Array,
  into: Uint8Array,
): number | undefined {
  try {
    const plain = decode(packed, {
      chunkSize: Math.max(into.length + 1, 64),
      maxOutputLength: Math.max(into.length, 1),
      finishFlush: constants.Z_SYNC_FLUSH,
    });
    if (plain.length > into.length) return undefined;
    into.set(plain);
    return plain.length;
  } catch (error) {
    if (DAMAGED.has(systemCode(error) ?? '')) return undefined;
    throw error;
  }
}

const DAMAGED = new Set(['Z_DATA_ERROR', 'Z_BUF_ERROR', 'Z_NEED_DICT', 'ERR_BUFFER_TOO_LARGE']);

/**
 * Packs `plain` as one raw deflate stream that a reader with a 4 KiB window can decode (what qcow2 asks for), with
 * QEMU's parameters.
 */
export function deflate(plain: Uint8Array): Uint8Array {
  return deflateRawSync(plain, { windowBits: 12, memLevel: 9, chunkSize: roomFor(plain) });
}

/** Packs `plain` as one stream with zlib's own header and checksum (RFC 1950). */
export function deflateZlib(plain: Uint8Array): Uint8Array {
  return deflateSync(plain, { chunkSize: roomFor(plain) });
}

/** Packed in one piece, whatever it holds. */
function roomFor(plain: Uint8Array): number {
  return plain.length + Math.ceil(plain.length / 1024) + 64;
}
