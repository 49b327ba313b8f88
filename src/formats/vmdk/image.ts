/** Opening a disk: from its descriptor, or from a sparse extent with one inside (or without any). */
import type { OpenContext } from '../../image/format.js';
import { Health } from '../../image/health.js';
import type { Image } from '../../image/image.js';
import { MappedImage } from '../../image/mapping.js';
import { corrupt, ImgfsError } from '../../lib/errors.js';
import { readTable, type Storage } from '../../storage/storage.js';
import { type Descriptor, isDescriptor, parseDescriptor } from './descriptor.js';
import { type Extent, openExtents } from './extents.js';
import { headOf, readShape, type SparseShape } from './header.js';
import { infoOf } from './info.js';
import { VmdkLayer } from './layer.js';
import { kindOf, MAX } from './layout.js';
import { SparseExtent } from './sparse.js';
import { DiskTables } from './tables.js';

/** A disk's descriptor, and where its text stands in the image's own file. */
export interface Disk {
  readonly descriptor: Descriptor;
  readonly textAt: number;
  /** The sparse extent that is the image's own file, unless a text says what the extents are. */
  readonly shape: SparseShape | undefined;
}

/** Opens a disk with its extents and its parent. Throws as `ImageFormat.open`. */
export function openImage(storage: Storage, context: OpenContext): Image {
  const { limits } = context;
  const disk = readDisk(storage, context);
  const { descriptor, shape } = disk;
  const caches = new DiskTables(limits, context.sharing, new Health(context.sharing));
  const storages = new Map<string, Storage>();
  let parent: Image | undefined;
  try {
    if (context.writable) throw new ImgfsError('unsupported', `${storage.name}: vmdk images can only be read`);
    const extents: readonly Extent[] =
      shape === undefined
        ? openExtents(descriptor, storage.name, { context, caches, storages })
        : [new SparseExtent({ storage, shape, size: shape.size, file: 0, caches, writable: context.writable })];
    parent = openParent(storage.name, descriptor, context);
    const embedded = shape !== undefined;
    const info = infoOf({ name: storage.name, descriptor, embedded, extents });
    const layer = new VmdkLayer(extents, info, [storage, ...storages.values()]);
    return new MappedImage({ layer, backing: parent, unpackedBytes: limits.unpackedBytes });
  } catch (error) {
    parent?.close();
    for (const opened of storages.values()) opened.close();
    throw error;
  }
}

/** Kinds of disk that are the sparse extent their text stands in. */
const EMBEDDED = ['monolithicSparse', 'streamOptimized'];

/** Reads the descriptor, wherever it stands, and the header of the image's own file if that is an extent. */
export function readDisk(storage: Storage, { limits }: Pick<OpenContext, 'limits'>): Disk {
  const { name } = storage;
  if (kindOf(headOf(storage, 8)) === undefined) {
    if (storage.size() > MAX.descriptorBytes) {
      throw new ImgfsError('limit', `${name}: a descriptor of ${storage.size()} bytes`, {
        hint: `the limit is ${MAX.descriptorBytes}`,
      });
    }
    const text = headOf(storage, storage.size());
    if (!isDescriptor(text)) throw corrupt(`${name}: neither a descriptor nor a sparse extent`);
    return { descriptor: listing(parseDescriptor(text, name), name), textAt: 0, shape: undefined };
  }
  const shape = readShape(storage, limits);
  const text = embeddedText(storage, shape);
  if (text === undefined) return { descriptor: bare(shape, name), textAt: 0, shape };
  const descriptor = parseDescriptor(text, name);
  const textAt = shape.descriptor?.at ?? 0;
  // An extent of no size only carries the text of a disk that lies elsewhere.
  if (shape.size === 0 && !EMBEDDED.includes(descriptor.createType)) {
    return { descriptor: listing(descriptor, name), textAt, shape: undefined };
  }
  if (descriptor.extents.length > 1) {
    throw new ImgfsError(
      'unsupported',
      `${name}: an extent whose descriptor names ${descriptor.extents.length} extents`,
    );
  }
  return { descriptor, textAt, shape };
}

function listing(descriptor: Descriptor, name: string): Descriptor {
  if (descriptor.extents.length === 0) throw corrupt(`${name}: the descriptor names no extent`);
  return descriptor;
}

/** The text inside a sparse extent; undefined where there is none or it is blank, as in parts of a split disk. */
function embeddedText(storage: Storage, { descriptor: place }: SparseShape): Buffer | undefined {
  if (place === undefined) return undefined;
  if (place.length > MAX.descriptorBytes) {
    throw new ImgfsError('limit', `${storage.name}: a descriptor of ${place.length} bytes`, {
      hint: `the limit is ${MAX.descriptorBytes}`,
    });
  }
  const text = Buffer.alloc(place.length);
  readTable(storage, text, place.at, 'descriptor');
  return text[0] === 0 ? undefined : text;
}

/** A sparse extent by itself. What it is a delta of, only a descriptor can say. */
function bare(shape: SparseShape, name: string): Descriptor {
  if (!shape.root) {
    throw new ImgfsError('unsupported', `${name}: this is one part of a disk with a parent`, {
      hint: 'open its descriptor instead',
    });
  }
  const createType = { hosted: 'monolithicSparse', cowd: 'vmfsSparse', sesparse: 'seSparse' }[shape.kind];
  const none = { parentCid: undefined, parentName: undefined, extents: [], tracked: false, cidDigits: undefined };
  return { createType, cid: 2 ** 32 - 1, ...none };
}

const WINDOWS_PATH = /^(?:[a-z]:[\\/]|\\\\)/i;

/** The parent, whose content must be what it was when the delta was made: its CID says so. */
function openParent(name: string, descriptor: Descriptor, context: OpenContext): Image | undefined {
  const { parentCid, parentName } = descriptor;
  if (parentCid === undefined) return undefined;
  if (parentName === undefined || parentName === '') {
    throw new ImgfsError('missing', `${name}: the descriptor does not name the parent it needs`);
  }
  if (WINDOWS_PATH.test(parentName)) {
    throw new ImgfsError('refused', `${name}: the parent "${parentName}" is named by a path of Windows`, {
      hint: 'put the parent beside it and its plain name into the descriptor (parentFileNameHint)',
    });
  }
  const parent = context.openImage({ role: 'parent', name: parentName, format: 'vmdk' });
  const cid = parent.info.specific?.data.cid;
  if (context.standIns === true || cid === parentCid) return parent;
  parent.close();
  throw new ImgfsError('refused', `${name}: its parent "${parentName}" was changed since it was made`, {
    hint: `the parent's CID is ${hex(cid)}, not ${hex(parentCid)}`,
  });
}

function hex(cid: unknown): string {
  return typeof cid === 'number' ? cid.toString(16).padStart(8, '0') : 'unknown';
}
