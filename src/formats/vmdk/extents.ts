/** The extents of a disk: ranges of the guest's bytes, each in a file of its own or in none. */
import type { OpenContext } from '../../image/format.js';
import type { Mapping } from '../../image/mapping.js';
import { corrupt, ImgfsError } from '../../lib/errors.js';
import type { Storage } from '../../storage/storage.js';
import type { Descriptor, ExtentLine } from './descriptor.js';
import { readShape, type SparseShape } from './header.js';
import { SparseExtent } from './sparse.js';
import type { DiskTables } from './tables.js';

/** One range of the disk. Offsets are its own. */
export interface Extent {
  /** Guest bytes. */
  readonly size: number;
  /** Allocation unit in bytes, undefined where nothing is ever allocated. */
  readonly grainSize: number | undefined;
  readonly storage: Storage | undefined;
  /** `at` and `length` lie within it, or in the rest of its last grain. */
  map(at: number, length: number): Mapping;
  /** As `map`, with holes of the host file told apart. */
  mapInDetail?(at: number, length: number): Mapping;
}

/** Bytes of a file as they are. */
export class FlatExtent implements Extent {
  readonly grainSize = undefined;

  constructor(
    readonly storage: Storage,
    readonly offset: number,
    readonly size: number,
    private readonly writable: boolean,
  ) {}

  map(at: number, length: number): Mapping {
    return this.mapped(at, length);
  }

  mapInDetail(at: number, length: number): Mapping {
    const run = this.storage.extent(this.offset + at);
    return { ...this.mapped(at, Math.min(run.length, length)), zero: !run.data };
  }

  private mapped(at: number, length: number): Mapping & { readonly kind: 'data' } {
    return { kind: 'data', length, storage: this.storage, offset: this.offset + at, ours: this.writable };
  }
}

/** No file: zeros. */
class ZeroExtent implements Extent {
  readonly grainSize = undefined;
  readonly storage = undefined;

  constructor(readonly size: number) {}

  map(_at: number, length: number): Mapping {
    return { kind: 'zero', length };
  }
}

/** An extent whose bytes cannot be had: the descriptor says so, or its file was deliberately not opened. */
class BarredExtent implements Extent {
  readonly grainSize = undefined;
  readonly storage = undefined;

  constructor(
    readonly size: number,
    private readonly why: string,
  ) {}

  map(): Mapping {
    throw new ImgfsError('refused', this.why);
  }
}

/** What extents are opened with. */
export interface ExtentParts {
  readonly context: OpenContext;
  readonly caches: DiskTables;
  /** Files that were opened, by the names of the descriptor. Whoever made the map closes them. */
  readonly storages: Map<string, Storage>;
}

/**
 * Opens every extent a descriptor names, each file once. Throws what opening files throws, `corrupt` where an extent
 * contradicts its line, `truncated` where its file is shorter, and `limit`.
 */
export function openExtents(descriptor: Descriptor, name: string, parts: ExtentParts): readonly Extent[] {
  const { limits } = parts.context;
  let size = 0;
  return descriptor.extents.map((line, number) => {
    size += line.size;
    if (size > limits.virtualSize) {
      throw new ImgfsError('limit', `${name}: a disk of ${size} bytes or more, the limit is ${limits.virtualSize}`);
    }
    return openExtent(line, number, name, parts);
  });
}

function openExtent(line: ExtentLine, number: number, name: string, parts: ExtentParts): Extent {
  const { access, type, size } = line;
  const { writable, limits, standIns } = parts.context;
  if (access === 'NOACCESS') return new BarredExtent(size, `${name}: its descriptor forbids to read this range`);
  if (line.name === undefined) return new ZeroExtent(size);
  if (writable && access === 'RDONLY') {
    throw new ImgfsError('read-only', `${name}: the descriptor allows only to read "${line.name}"`);
  }
  const again = parts.storages.has(line.name);
  const storage = opened(line.name, parts);
  if (standIns === true) return new BarredExtent(size, `"${line.name}" was not opened`);
  if (type === 'FLAT' || type === 'VMFS') {
    if (line.offset + size > storage.size()) {
      throw new ImgfsError('truncated', `${storage.name} is shorter than ${name} says`);
    }
    return new FlatExtent(storage, line.offset, size, writable);
  }
  if (again) throw corrupt(`${name}: "${line.name}" is used for several extents`);
  const shape = readShape(storage, limits);
  assertKind(line, shape, storage);
  return new SparseExtent({ storage, shape, size, file: number, caches: parts.caches, writable });
}

/** Several extents may lie in one file. */
function opened(name: string, { context, storages }: ExtentParts): Storage {
  const known = storages.get(name);
  if (known !== undefined) return known;
  const storage = context.openStorage({ role: 'extent', name });
  storages.set(name, storage);
  return storage;
}

const KINDS = { SPARSE: ['hosted'], VMFSSPARSE: ['cowd', 'hosted'], SESPARSE: ['sesparse'] } as const;

function assertKind({ type, size }: ExtentLine, { kind, size: capacity }: SparseShape, { name }: Storage): void {
  if (type !== 'SPARSE' && type !== 'VMFSSPARSE' && type !== 'SESPARSE') return;
  const allowed: readonly string[] = KINDS[type];
  if (!allowed.includes(kind)) throw corrupt(`${name} is no ${type} extent`);
  if (capacity !== size) {
    throw new ImgfsError('unsupported', `${name} has ${capacity} bytes of the disk, its descriptor says ${size}`);
  }
}
