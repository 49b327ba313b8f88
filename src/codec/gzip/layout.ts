/** The header of a gzip member (RFC 1952). */
import { bitAt } from '../../lib/bits.js';
import { corrupt } from '../../lib/errors.js';

/** CRC and length. */
export const GZIP_TRAILER_BYTES = 8;
/** A header is longer only where its names are. */
export const GZIP_HEADER_MOST = 8192;

const FIXED_BYTES = 10;
const DEFLATE = 8;
const FLAG = { headerCrc: 1, extra: 2, name: 3, comment: 4 } as const;

/** How long the header is; undefined for bytes that are none. Throws `corrupt` for one that is cut off, or of another method. */
export function decodeGzipHeader(bytes: Buffer, name: string): { readonly length: number } | undefined {
  if (bytes.length < FIXED_BYTES || bytes[0] !== 0x1f || bytes[1] !== 0x8b) return undefined;
  if (bytes[2] !== DEFLATE) throw corrupt(`${name}: gzip's method ${bytes[2]} is unknown`);
  const flags = bytes[3] ?? 0;
  let at = FIXED_BYTES;
  const pastText = (): void => {
    const end = bytes.indexOf(0, at);
    at = end < 0 ? bytes.length + 1 : end + 1;
  };
  if (bitAt(flags, FLAG.extra)) at += 2 + (at + 2 <= bytes.length ? bytes.readUInt16LE(at) : bytes.length);
  if (bitAt(flags, FLAG.name)) pastText();
  if (bitAt(flags, FLAG.comment)) pastText();
  if (bitAt(flags, FLAG.headerCrc)) at += 2;
  if (at > bytes.length) throw corrupt(`${name}: the gzip header is cut off, or too long`);
  return { length: at };
}
