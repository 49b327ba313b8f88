import { roundUp } from '../../../lib/bits.js';
import { ImgfsError } from '../../../lib/errors.js';
import { encodeExtensions, type HeaderChanges } from '../encode.js';
import type { RawExtension } from '../extensions.js';
import { readStart } from '../header.js';
import { decodeHeader, EXTENSION, HEADER_BYTES } from '../layout.js';
import type { Volume } from './volume.js';

/** What a medium stores whole or not at all. */
const SECTOR = 512;

/**
 * The first sector of the header with these extensions, for a switch; `stored` is the header proper. All of them must lie in it, since what lies
 * behind cannot be replaced with it; the table of feature names, which is a courtesy, gives way (`restoreNames` puts it
 * back). A backing file name that is in the way moves. Throws `limit` where there is no room.
 */
export function putStart(
  volume: Volume,
  extensions: readonly RawExtension[],
  stored = volume.live.now.stored,
): HeaderChanges {
  const { storage, live } = volume;
  const old = readStart(storage, live.now.clusterSize);
  const area = [extensions, withoutNames(extensions)]
    .map(encodeExtensions)
    .find((bytes) => stored.length + bytes.length <= SECTOR);
  if (area === undefined) throw noRoom(storage.name);
  const end = stored.length + area.length;
  const name = presentName(stored);
  const start = Buffer.alloc(SECTOR);
  start.set(stored.subarray(0, SECTOR));
  start.set(area, stored.length);
  if (name.at === name.end) return { start };
  if (name.at >= end) {
    start.set(old.subarray(name.at, Math.max(name.at, SECTOR)), Math.min(name.at, SECTOR));
    return { start };
  }
  const bytes = old.subarray(name.at, name.end);
  if (end + bytes.length <= SECTOR) {
    start.set(bytes, end);
    return { start, backingAt: end };
  }
  // Behind everything that the present header leads to.
  const used = live.now.stored.length + encodeExtensions(live.now.extensions.all).length;
  const at = roundUp(Math.max(SECTOR, used, name.end), 8);
  if (at + bytes.length > old.length) throw noRoom(storage.name);
  storage.write(bytes, at);
  return { start, backingAt: at };
}

/** Puts the table of feature names back that is among `before`, where a switch had to leave it out and it has room. */
export function restoreNames(volume: Volume, before: readonly RawExtension[]): void {
  const { storage, live, health } = volume;
  const { stored, extensions, clusterSize } = live.now;
  const names = before.filter(({ type }) => type === EXTENSION.featureNames);
  if (names.length === 0 || extensions.all.some(({ type }) => type === EXTENSION.featureNames)) return;
  const area = encodeExtensions([...extensions.all, ...names]);
  const end = stored.length + area.length;
  const name = presentName(stored);
  if (end > (name.at === name.end ? clusterSize : name.at)) return;
  const whole = readStart(storage, Math.max(SECTOR, end));
  whole.set(area, stored.length);
  if (end > SECTOR) {
    storage.write(whole.subarray(SECTOR), SECTOR);
    health.barrier(storage);
  }
  live.replaceStart(whole.subarray(0, SECTOR), health);
  health.barrier(storage);
}

function withoutNames(extensions: readonly RawExtension[]): readonly RawExtension[] {
  return extensions.filter(({ type }) => type !== EXTENSION.featureNames);
}

function presentName(stored: Uint8Array): { readonly at: number; readonly end: number } {
  const fields = Buffer.alloc(Math.max(HEADER_BYTES.known, stored.length));
  fields.set(stored);
  const { backingAt: at, backingBytes } = decodeHeader(fields, 'the image');
  return { at, end: at + backingBytes };
}

function noRoom(file: string): ImgfsError {
  return new ImgfsError('limit', `${file}: its header has no room for that`);
}
