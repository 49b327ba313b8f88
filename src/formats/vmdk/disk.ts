/** A disk as its own file describes it: the descriptor, and the sparse extent it may stand in. */
import type { OpenContext } from '../../image/format.js';
import { corrupt, ImgfsError } from '../../lib/errors.js';
import { readTable, type Storage } from '../../storage/storage.js';
import { type Descriptor, isDescriptor, parseDescriptor } from './descriptor.js';
import { headOf, readShape, type SparseShape } from './header.js';
import { kindOf, MAX } from './layout.js';

/** A disk's descriptor, and where its text stands in the image's own file. */
export interface Disk {
  readonly descriptor: Descriptor;
  readonly textAt: number;
  /** The sparse extent that is the image's own file, unless a text says what the extents are. */
  readonly shape: SparseShape | undefined;
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
