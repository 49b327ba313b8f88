import { deflate, deflateZlib } from './inflate.js';
import { zstdCompress } from './zstd.js';

/**
 * How a unit is packed: `deflate` (a raw stream, window of 4 KiB) and `zstd` in clusters of qcow and qcow2, `zlib` (with
 * header and checksum) in grains of vmdk.
 */
export type PackMethod = 'deflate' | 'zstd' | 'zlib';

/**
 * Packs one unit, at the levels QEMU uses. Undefined where that does not make it smaller: whoever asked then stores it
 * as it is. Never so by `zlib`, as there is nothing else in the formats that use it. Pure, so that any thread can do
 * it; in one of its own `prepareCodecs` comes first.
 */
export function pack(method: PackMethod, plain: Uint8Array): Uint8Array | undefined {
  if (method === 'zlib') return deflateZlib(plain);
  if (method === 'zstd') return zstdCompress(plain);
  const packed = deflate(plain);
  return packed.length < plain.length ? packed : undefined;
}
