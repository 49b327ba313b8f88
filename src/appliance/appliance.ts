/** An appliance as its verbs see it: its descriptor, its manifest, and the other files in their order. */
import { createHash } from 'node:crypto';
import { type Descriptor, parseDescriptor } from '../formats/ova/descriptor.js';
import { type Digest, type ManifestLine, MOST_MANIFEST, parseManifest } from '../formats/ova/manifest.js';
import type { ContainedFile } from '../image/container.js';
import type { OpenedContainer } from '../image/opened-container.js';
import { ImgfsError } from '../lib/errors.js';
import { readTable, type Storage } from '../storage/storage.js';

/** A small file of an appliance, all of it. */
export interface SmallFile {
  readonly name: string;
  readonly bytes: Buffer;
}

export interface Manifest extends SmallFile {
  readonly lines: readonly ManifestLine[];
}

export class Appliance {
  readonly descriptor: SmallFile & { readonly parsed: Descriptor };
  readonly manifest: Manifest | undefined;
  readonly certificate: SmallFile | undefined;
  /** All others: first those that the descriptor names, in its order. */
  readonly files: readonly ContainedFile[];

  /** Throws what reading and parsing them throws. The container stays its owner's. */
  constructor(readonly opened: OpenedContainer) {
    const { descriptor, manifest, certificate, files } = opened.container;
    const parsed = parseDescriptor(descriptor.bytes, descriptor.name);
    this.descriptor = { ...descriptor, parsed };
    const found = manifest && readSmall(opened, manifest);
    this.manifest = found && { ...found, lines: parseManifest(found.bytes, `${opened.file.name}: ${found.name}`) };
    this.certificate = certificate && readSmall(opened, certificate);
    const others = files.filter(({ name }) => name !== descriptor.name);
    const order = new Map(parsed.files.map(({ href }, n) => [href, n]));
    const rank = ({ name }: ContainedFile): number =>
      order.get(name) ?? order.get(name.replace(CHUNK, '')) ?? order.size;
    this.files = others.sort((a, b) => rank(a) - rank(b));
  }
}

const CHUNK = /\.\d{9}$/;

/** Undefined where it is not there. */
function readSmall(opened: OpenedContainer, file: ContainedFile): SmallFile | undefined {
  let storage: Storage;
  try {
    storage = opened.openFile(file);
  } catch (error) {
    if (error instanceof ImgfsError && error.reason === 'missing') return undefined;
    throw error;
  }
  try {
    const size = storage.size();
    if (size > MOST_MANIFEST) throw new ImgfsError('limit', `${storage.name} has ${size} bytes`);
    const bytes = Buffer.alloc(size);
    readTable(storage, bytes, 0, 'text');
    return { name: file.name, bytes };
  } finally {
    storage.close();
  }
}

/** How many bytes each file has, but for those that cannot be opened for a reason that is passed over. */
export function sizesOf(
  { opened, files }: Appliance,
  passOver: (error: ImgfsError) => boolean,
): ReadonlyMap<string, number> {
  const sizes = new Map<string, number>();
  for (const file of files) {
    try {
      const storage = opened.openFile(file);
      sizes.set(file.name, storage.size());
      storage.close();
    } catch (error) {
      if (!(error instanceof ImgfsError) || !passOver(error)) throw error;
    }
  }
  return sizes;
}

/** Read, and hashed, at once. */
const STEP = 1024 * 1024;

/** Every piece of a storage in order, each only good until the next. */
export function* piecesOf(storage: Storage): Generator<Buffer> {
  const size = storage.size();
  const buffer = Buffer.alloc(Math.min(STEP, size));
  for (let at = 0; at < size; ) {
    const piece = buffer.subarray(0, Math.min(buffer.length, size - at));
    readTable(storage, piece, at, 'data');
    yield piece;
    at += piece.length;
  }
}

/** The digest of a text. */
export function digestOf(digest: Digest, bytes: Uint8Array): string {
  return createHash(digest).update(bytes).digest('hex');
}
