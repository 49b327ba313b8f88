/**
 * What `imgfs info --json` and the mount's info.json say of an image: the keys and values of qemu-img, and ours beside
 * them (`schema`, `exact-size`, `name-bytes`). Pure: everything comes from the opened image and the name it was given.
 */
import { jsonText } from '../lib/json-text.js';
import { FileStorage } from '../storage/file.js';
import { combinedName } from './combined-name.js';
import type { HostFile } from './files.js';
import type { Image, ImageInfo, Json, Snapshot } from './image.js';
import type { OpenedImage } from './open.js';

/** One internal snapshot, under qemu-img's keys. */
export interface SnapshotDocument {
  readonly id: string;
  readonly name: string;
  /** The name's true bytes in hexadecimal, only where they are no UTF-8 and `name` cannot carry them. */
  readonly 'name-bytes'?: string;
  readonly 'vm-state-size': number;
  readonly 'date-sec': number;
  readonly 'date-nsec': number;
  readonly 'vm-clock-sec': number;
  readonly 'vm-clock-nsec': number;
  /** A string where a JSON number would not be exact. */
  readonly icount?: number | string;
}

/** An image, under qemu-img's keys. */
export interface InfoDocument {
  readonly schema: 'imgfs.info/1';
  readonly filename: string;
  readonly format: string;
  /** In whole sectors, as qemu-img has it. */
  readonly 'virtual-size': number;
  /** The size of the disk that imgfs shows, to the byte. */
  readonly 'exact-size': number;
  /** Of the image's own file: data files and extents it names are not counted, opened or not. */
  readonly 'actual-size': number;
  readonly 'cluster-size'?: number;
  readonly encrypted?: true;
  readonly compressed?: true;
  readonly 'dirty-flag': boolean;
  readonly 'backing-filename'?: string;
  readonly 'full-backing-filename'?: string;
  readonly 'backing-filename-format'?: string;
  readonly snapshots?: readonly SnapshotDocument[];
  readonly 'format-specific'?: { readonly type: string; readonly data: { readonly [key: string]: Json } };
}

/** Describes an image, and nothing of what it names. */
export function describeImage({ image, file, plan }: Pick<OpenedImage, 'image' | 'file' | 'plan'>): InfoDocument {
  return describe(image, file, plan.within?.name ?? file.name);
}

/** Describes an image and every image below it that was opened, top first. */
export function describeChain({ image: top, chain }: Pick<OpenedImage, 'image' | 'chain'>): readonly InfoDocument[] {
  const documents: InfoDocument[] = [];
  let image: Image | undefined = top;
  for (const file of chain) {
    if (image === undefined) break;
    const above = documents.at(-1);
    documents.push(describe(image, file, above?.['full-backing-filename'] ?? file.name));
    image = image.backing;
  }
  return documents;
}

/** `filename` is the image's name as the user, or the image above it, gave it. */
function describe(image: Image, file: HostFile, filename: string): InfoDocument {
  const { info } = image;
  const { specific } = info;
  const snapshots = image.snapshots().map(describeSnapshot);
  return {
    schema: 'imgfs.info/1',
    filename,
    format: info.format,
    'virtual-size': wholeSectors(image),
    'exact-size': image.size,
    'actual-size': new FileStorage(file).allocated(),
    ...(info.clusterSize === undefined ? {} : { 'cluster-size': info.clusterSize }),
    ...(info.encrypted ? { encrypted: true } : {}),
    ...(info.compressed ? { compressed: true } : {}),
    'dirty-flag': info.dirty,
    ...describeBacking(info, filename),
    ...(snapshots.length === 0 ? {} : { snapshots }),
    ...(specific === undefined ? {} : { 'format-specific': specific }),
  };
}

/** The JSON text of a document. */
export function infoJson(document: InfoDocument | readonly InfoDocument[]): string {
  return jsonText(document);
}

/** QEMU pads a file that is the disk itself to a whole sector, and cuts a size that an image's header states. */
function wholeSectors(image: Image): number {
  const over = image.size % 512;
  if (over === 0) return image.size;
  return image.info.format === 'raw' ? image.size - over + 512 : image.size - over;
}

function describeBacking(info: ImageInfo, filename: string): Partial<InfoDocument> {
  const { backing } = info;
  if (backing === undefined) return {};
  return {
    'backing-filename': backing.name,
    'full-backing-filename': combinedName(filename, backing.name),
    ...(backing.format === undefined ? {} : { 'backing-filename-format': backing.format }),
  };
}

/** A snapshot under qemu-img's keys. */
export function describeSnapshot(snapshot: Snapshot): SnapshotDocument {
  const bytes = Buffer.from(snapshot.nameBytes);
  const second = 1_000_000_000n;
  return {
    id: snapshot.id,
    name: snapshot.name,
    ...(Buffer.from(snapshot.name).equals(bytes) ? {} : { 'name-bytes': bytes.toString('hex') }),
    'vm-state-size': snapshot.vmStateSize,
    'date-sec': snapshot.seconds,
    'date-nsec': snapshot.nanoseconds,
    'vm-clock-sec': Number(snapshot.vmClockNanoseconds / second),
    'vm-clock-nsec': Number(snapshot.vmClockNanoseconds % second),
    ...(snapshot.icount === undefined ? {} : { icount: exactNumber(snapshot.icount) }),
  };
}

function exactNumber(value: bigint): number | string {
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : String(value);
}
