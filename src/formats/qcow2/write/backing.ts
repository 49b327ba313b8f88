import type { NamedFile } from '../../../image/image.js';
import { ImgfsError } from '../../../lib/errors.js';
import { readPadded } from '../../../storage/storage.js';
import { encodeExtensions, putHeaderChanges } from '../encode.js';
import type { RawExtension } from '../extensions.js';
import { type Header, readHeader } from '../header.js';
import { AUTOCLEAR, decodeHeader, EXTENSION, HEADER_BYTES, keptFeatures, MAX } from '../layout.js';
import { repairDirty } from './dirty.js';
import type { Volume } from './volume.js';

/** What a medium stores whole or not at all. */
const SECTOR = 512;

/**
 * Names another backing file, or none. The switch is one write of the first sector, which says where the name lies and
 * holds its format. So the new name goes beside the old one, durably, first. Where the extensions behind that sector
 * move, they cannot be replaced with it: the table of feature names, which is a courtesy, is then left out, and comes
 * back when the switch is durable. No guest data is changed, so bitmaps are believed as before.
 */
export function changeBacking(volume: Volume, backing: NamedFile | undefined): void {
  const { storage, limits, live, health } = volume;
  volume.settle();
  if (live.now.dirty) repairDirty(volume);
  const header = readHeader(storage, limits);
  const name = nameOf(storage.name, header, backing);
  const all = extensionsOf(header, backing);
  const bare = all.filter(({ type }) => type !== EXTENSION.featureNames);
  const old = Buffer.alloc(header.clusterSize);
  readPadded(storage, old, 0);

  const full = new NewStart(old, header, all);
  const at = backing === undefined ? 0 : placeOf(storage.name, name, header, full.end);
  full.point(at, name);
  const moved = full.end > SECTOR && full.bytes.compare(old, SECTOR, full.end, SECTOR, full.end) !== 0;
  const switched = moved ? new NewStart(old, header, bare) : full;
  if (switched !== full) {
    if (switched.end > SECTOR) throw noRoom(storage.name);
    switched.point(at, name);
  }
  const behind = Math.max(at, SECTOR);
  if (behind < at + name.length) {
    storage.write(full.bytes.subarray(behind, at + name.length), behind);
    health.barrier(storage);
  }
  live.replaceStart(switched.bytes.subarray(0, SECTOR), health);
  health.barrier(storage);
  if (switched === full) return;
  storage.write(full.bytes.subarray(SECTOR, full.end), SECTOR);
  health.barrier(storage);
  live.replaceStart(full.bytes.subarray(0, SECTOR), health);
  health.barrier(storage);
}

function nameOf(file: string, { dataFileRaw }: Header, backing: NamedFile | undefined): Buffer {
  if (backing !== undefined && dataFileRaw) {
    throw new ImgfsError('unsupported', `${file}: an image whose data file is a raw disk has no backing file`);
  }
  const name = Buffer.from(backing?.name ?? '');
  if (name.length <= MAX.backingNameBytes) return name;
  throw new ImgfsError('limit', `${file}: the name of its backing file is longer than ${MAX.backingNameBytes} bytes`);
}

function extensionsOf({ extensions }: Header, backing: NamedFile | undefined): readonly RawExtension[] {
  const others = extensions.all.filter(({ type }) => type !== EXTENSION.backingFormat);
  const format = backing?.format;
  return format === undefined ? others : [{ type: EXTENSION.backingFormat, data: Buffer.from(format) }, ...others];
}

/** Where the name goes: behind all extensions, and not over anything that the present header leads to. */
function placeOf(file: string, name: Buffer, header: Header, end: number): number {
  const used = header.stored.length + encodeExtensions(header.extensions.all).length;
  const present = presentName(header.stored);
  for (const at of [end, Math.max(end, used), Math.max(end, used, present.end)]) {
    // What lies in the first sector is replaced together with what leads to it.
    const [from, to] = [Math.max(at, SECTOR), at + name.length];
    const free = from >= to || (from >= used && (from >= present.end || to <= present.at));
    if (free && to <= header.clusterSize) return at;
  }
  throw noRoom(file);
}

function presentName(stored: Uint8Array): { readonly at: number; readonly end: number } {
  const fields = Buffer.alloc(Math.max(HEADER_BYTES.known, stored.length));
  fields.set(stored);
  const { backingAt: at, backingBytes } = decodeHeader(fields, 'the image');
  return { at, end: at + backingBytes };
}

function noRoom(file: string): ImgfsError {
  return new ImgfsError('limit', `${file}: its header has no room for the name of that backing file`);
}

/** The first cluster as it shall be. */
class NewStart {
  readonly bytes: Buffer;
  /** Where the extensions end. */
  readonly end: number;

  constructor(
    old: Buffer,
    private readonly header: Header,
    extensions: readonly RawExtension[],
  ) {
    const area = encodeExtensions(extensions);
    this.bytes = Buffer.from(old);
    this.end = header.stored.length + area.length;
    if (this.end > old.length) throw noRoom('the image');
    this.bytes.set(area, header.stored.length);
  }

  /** Puts the name, and the fields that lead to it. */
  point(at: number, name: Buffer): void {
    const { autoclear, version, clusterSize } = this.header;
    this.bytes.set(name, at);
    const kept = keptFeatures(autoclear, [AUTOCLEAR.dataFileRaw, AUTOCLEAR.bitmaps]);
    const fields = { backingAt: at, backingBytes: name.length };
    putHeaderChanges(this.bytes, version === 2 ? fields : { ...fields, autoclear: kept }, clusterSize);
  }
}
