/**
 * Where the formats that imgfs cannot open yet carry their magic, and what it is. Only enough to name them: each
 * signature is long enough, or checked closely enough, that a raw disk does not match by accident.
 */
import { asBuffer } from '../../lib/bits.js';

/** Bytes at a fixed offset from the start (or, negative, from the end) of the file. */
export interface Signature {
  readonly at: number;
  readonly bytes: Buffer;
}

/** A signature of ASCII text. */
export function text(at: number, characters: string): Signature {
  return { at, bytes: Buffer.from(characters, 'latin1') };
}

/** A signature of byte values. */
export function bytes(at: number, ...values: readonly number[]): Signature {
  return { at, bytes: Buffer.from(values) };
}

/** Whether the signature stands in the file whose first and last bytes are given. */
export function stands(signature: Signature, head: Buffer, tail: Buffer): boolean {
  const from = signature.at >= 0 ? head : tail;
  const at = signature.at >= 0 ? signature.at : tail.length + signature.at;
  if (at < 0 || at + signature.bytes.length > from.length) return false;
  return asBuffer(from).compare(signature.bytes, 0, signature.bytes.length, at, at + signature.bytes.length) === 0;
}

export const VHD_FOOTER_AT_END = text(-512, 'conectix');
export const VHD_FOOTER_COPY = text(0, 'conectix');
export const VHDX = text(0, 'vhdxfile');
export const QED = text(0, 'QED\0');
export const PARALLELS = text(0, 'WithoutFreeSpace');
export const PARALLELS_EXTENDED = text(0, 'WithouFreSpacExt');
export const DMG_TRAILER = text(-512, 'koly\0\0\0\x04');
export const CLOOP = text(0, '#!/bin/sh\n#V2.0 Format\n');
export const BOCHS = text(0, 'Bochs Virtual HD Image\0');
export const ASIF = text(0, 'shdw');
export const EWF = bytes(0, 0x45, 0x56, 0x46, 0x09, 0x0d, 0x0a, 0xff, 0x00);
