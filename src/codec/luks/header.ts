import { roundUp } from '../../lib/bits.js';
import { corrupt, ImgfsError } from '../../lib/errors.js';
import type { Storage } from '../../storage/storage.js';
import { decodeHeader, decodeVersion, HEADER_BYTES, type HeaderFields, SECTOR, type SlotFields } from './layout.js';

/** The longest master key of any cipher there is, and QEMU's and cryptsetup's number of stripes, which nobody varies. */
const MAX_KEY_BYTES = 512;
const MAX_STRIPES = 4000;
/** As far as a prefix of the file can reach. */
const MAX_TEXT = 31;

/**
 * Reads and checks a LUKS1 header at the start of `storage`: every length and place in it, and that nothing lies on
 * anything else. Needs no key, and does not ask whether the cipher is one we have. Throws `corrupt`, `truncated`,
 * `limit` and, for LUKS2, `unsupported`.
 */
export function readLuksHeader(storage: Storage): HeaderFields {
  const { name } = storage;
  const bytes = Buffer.alloc(HEADER_BYTES);
  const got = storage.read(bytes, 0);
  const version = decodeVersion(bytes.subarray(0, got));
  if (version === undefined) throw corrupt(`${name}: no LUKS header`);
  if (version === 2) {
    throw new ImgfsError('unsupported', `${name}: LUKS version 2, which imgfs cannot open`, {
      hint: 'it opens LUKS version 1',
    });
  }
  if (version !== 1) throw new ImgfsError('unsupported', `${name}: LUKS version ${version} is not known`);
  if (got < HEADER_BYTES) throw new ImgfsError('truncated', `${name}: the file ends inside the LUKS header`);
  const header = decodeHeader(bytes);
  checkFields(header, name);
  for (const [n, slot] of header.slots.entries()) checkSlot(header, slot, n, storage);
  checkApart(header, name);
  return header;
}

/** Bytes of a slot's key material: the stripes, in whole sectors. */
export function materialBytes(header: HeaderFields, slot: SlotFields): number {
  return roundUp(header.keyBytes * slot.stripes, SECTOR);
}

function checkFields(header: HeaderFields, name: string): void {
  const { cipher, mode, hash, keyBytes, digestIterations, payloadOffset } = header;
  for (const text of [cipher, mode, hash]) {
    if (text.length > MAX_TEXT || !/^[\x20-\x7e]+$/.test(text)) {
      throw corrupt(`${name}: the LUKS header names no cipher, mode or hash`);
    }
  }
  if (keyBytes === 0) throw corrupt(`${name}: a LUKS key of no bytes`);
  if (keyBytes > MAX_KEY_BYTES) {
    throw new ImgfsError('limit', `${name}: a LUKS key of ${keyBytes} bytes, the limit is ${MAX_KEY_BYTES}`);
  }
  if (digestIterations === 0) throw corrupt(`${name}: the digest of the LUKS key has no iterations`);
  if (payloadOffset !== 0 && payloadOffset < HEADER_BYTES) throw corrupt(`${name}: LUKS data on its header`);
}

function checkSlot(header: HeaderFields, slot: SlotFields, n: number, storage: Storage): void {
  const what = `${storage.name}: LUKS key slot ${n}`;
  if (slot.state === 'invalid') throw corrupt(`${what} is neither active nor inactive`);
  if (slot.stripes === 0) throw corrupt(`${what} has no stripes`);
  if (slot.stripes > MAX_STRIPES) {
    throw new ImgfsError('limit', `${what} has ${slot.stripes} stripes, the limit is ${MAX_STRIPES}`);
  }
  if (slot.keyOffset < HEADER_BYTES) throw corrupt(`${what} lies on the header`);
  const end = slot.keyOffset + materialBytes(header, slot);
  if (header.payloadOffset !== 0 && end > header.payloadOffset) throw corrupt(`${what} reaches into the data`);
  if (slot.state === 'inactive') return;
  if (slot.iterations === 0) throw corrupt(`${what} has no iterations`);
  if (end > storage.size()) throw new ImgfsError('truncated', `${what} lies past the end of the file`);
}

function checkApart(header: HeaderFields, name: string): void {
  const ranges = header.slots
    .map((slot, n) => ({ n, at: slot.keyOffset, end: slot.keyOffset + materialBytes(header, slot) }))
    .sort((a, b) => a.at - b.at);
  for (const [n, range] of ranges.entries()) {
    const before = ranges[n - 1];
    if (before !== undefined && before.end > range.at) {
      throw corrupt(`${name}: LUKS key slots ${before.n} and ${range.n} lie on each other`);
    }
  }
}
