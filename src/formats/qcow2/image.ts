import type { OpenContext } from '../../image/format.js';
import type { Image, ImageInfo, Snapshot } from '../../image/image.js';
import type { Limits } from '../../image/limits.js';
import { type Layer, MappedImage, type Mapping, type SnapshotSource } from '../../image/mapping.js';
import { corrupt, ImgfsError } from '../../lib/errors.js';
import type { Storage } from '../../storage/storage.js';
import { CompressedCluster, Unpacker } from './compressed.js';
import { type Header, readHeader } from './header.js';
import { infoOf } from './info.js';
import { KIND } from './layout.js';
import { Lookup } from './lookup.js';
import { Preallocation } from './preallocation.js';
import { readSnapshots, type StoredSnapshot } from './snapshots.js';
import { L2Cache, readL1 } from './tables.js';

/**
 * Opens an image: reads its header and its L1 table, names its backing file and data file to the context, and reads
 * nothing of either. The image owns `storage` and what the context returned; when this throws, what the context
 * returned is closed again, and `storage` stays the caller's.
 */
export function openImage(storage: Storage, context: OpenContext): Image {
  const header = readHeader(storage, context.limits);
  const l1 = readL1(storage, context.limits, header.l1At, header.l1Entries, header);
  const data = header.external ? openDataFile(storage, header, context) : storage;
  try {
    const parts = new Parts(storage, data, header, context.limits);
    const backing = header.backing && context.openImage({ role: 'backing', format: undefined, ...header.backing });
    const { unpackedBytes } = context.limits;
    const layer = parts.layer({ l1, base: 0, size: header.size, owner: true });
    return new MappedImage({ layer, backing, snapshots: new Snapshots(parts), unpackedBytes });
  } catch (error) {
    if (data !== storage) data.close();
    throw error;
  }
}

function openDataFile(storage: Storage, header: Header, context: OpenContext): Storage {
  const name = header.extensions.dataFile ?? '';
  if (name === '') throw new ImgfsError('missing', `${storage.name}: needs an external data file, but names none`);
  return context.openStorage({ role: 'data-file', name });
}

interface LayerSpec {
  readonly l1: Uint32Array;
  /** Guest offset at which the layer begins: 0 for a disk, past the disk for saved machine state. */
  readonly base: number;
  readonly size: number;
  /** The active layer closes the files; snapshots only borrow them. */
  readonly owner: boolean;
}

/** What all layers of one opened image share. */
class Parts {
  readonly l2: L2Cache;
  readonly info: ImageInfo;
  private readonly unpacker: Unpacker;
  private readonly preallocation: Preallocation;

  constructor(
    readonly storage: Storage,
    private readonly data: Storage,
    readonly header: Header,
    readonly limits: Limits,
  ) {
    this.l2 = new L2Cache(storage, header, limits);
    this.info = infoOf(storage, header, limits);
    this.unpacker = new Unpacker(storage, header.compression);
    this.preallocation = new Preallocation(storage, header);
  }

  layer(spec: LayerSpec): Layer {
    const lookup = new Lookup(this.storage.name, this.header, spec.l1, this.l2);
    return new Qcow2Layer(this, spec, lookup, this.data, this.unpacker, this.preallocation);
  }

  close(): void {
    this.l2.clear();
    if (this.data !== this.storage) this.data.close();
    this.storage.close();
  }
}

class Qcow2Layer implements Layer {
  readonly size: number;
  readonly blockSize: number;
  readonly info: ImageInfo;

  constructor(
    private readonly parts: Parts,
    private readonly spec: LayerSpec,
    private readonly lookup: Lookup,
    private readonly data: Storage,
    private readonly unpacker: Unpacker,
    private readonly preallocation: Preallocation,
  ) {
    this.size = spec.size;
    this.blockSize = parts.header.clusterSize;
    this.info = parts.info;
  }

  map(at: number, length: number): Mapping {
    const { lookup, data: storage } = this;
    if (this.parts.header.encryption !== undefined) throw this.encrypted();
    lookup.find(this.spec.base + at, length);
    const { offset } = lookup;
    switch (lookup.kind) {
      case KIND.data:
        return { kind: 'data', length: lookup.length, storage, offset };
      case KIND.zero:
        return { kind: 'zero', length: lookup.length };
      case KIND.zeroAllocated:
        return { kind: 'zero', length: lookup.length, storage, offset };
      case KIND.holeAllocated:
        return { kind: 'hole', length: lookup.length, storage, offset };
      case KIND.compressed:
        return { kind: 'packed', length: lookup.length, unit: this.compressed(at) };
      default:
        return { kind: 'hole', length: lookup.length };
    }
  }

  mapInDetail(at: number, length: number): Mapping {
    const mapping = this.map(at, length);
    return mapping.kind === 'data' ? this.preallocation.refine(mapping) : mapping;
  }

  hostBytes(): number {
    const own = this.parts.storage.allocated();
    return this.data === this.parts.storage ? own : own + this.data.allocated();
  }

  close(): void {
    if (this.spec.owner) this.parts.close();
  }

  private compressed(at: number): CompressedCluster {
    const { within } = this.lookup;
    const key = (this.spec.base + at - within) / this.blockSize;
    return new CompressedCluster(key, this.blockSize, within, this.lookup.packed(), this.unpacker);
  }

  private encrypted(): ImgfsError {
    const method = this.parts.header.encryption === 'luks' ? 'LUKS' : 'AES';
    return new ImgfsError(
      'unsupported',
      `${this.parts.storage.name}: encrypted with ${method}, which cannot be read yet`,
    );
  }
}

/** The snapshot table is read at first use: a damaged one must not keep the disk itself from being read. */
class Snapshots implements SnapshotSource {
  private stored: readonly StoredSnapshot[] | undefined;

  constructor(private readonly parts: Parts) {}

  list(): readonly Snapshot[] {
    return this.all().map(({ snapshot }) => snapshot);
  }

  layer(id: string): Layer {
    const { snapshot, l1 } = this.load(id);
    this.assertSize(snapshot.diskSize);
    return this.parts.layer({ l1, base: 0, size: snapshot.diskSize, owner: false });
  }

  /** The state lies behind the disk, at the first L1 entry that maps none of it; the L1 must cover it. */
  vmState(id: string): Layer {
    const { name } = this.parts.storage;
    const { snapshot, l1 } = this.load(id);
    const { vmStateSize: size, diskSize } = snapshot;
    if (size === 0) throw new ImgfsError('missing', `${name}: snapshot ${id} holds no machine state`);
    const { tableSpan } = this.parts.header;
    const base = Math.ceil(diskSize / tableSpan) * tableSpan;
    this.assertSize(base + size);
    if (base + size > (l1.length / 2) * tableSpan) {
      throw corrupt(`${name}: snapshot ${id} claims more machine state than it maps`);
    }
    return this.parts.layer({ l1, base, size, owner: false });
  }

  private load(id: string): { snapshot: Snapshot; l1: Uint32Array } {
    const { storage, limits, header } = this.parts;
    const found = this.all().find(({ snapshot }) => snapshot.id === id);
    if (found === undefined) throw new ImgfsError('missing', `${storage.name}: no snapshot has the id ${id}`);
    return { snapshot: found.snapshot, l1: readL1(storage, limits, found.l1At, found.l1Entries, header) };
  }

  private assertSize(size: number): void {
    const { storage, limits } = this.parts;
    if (size <= limits.virtualSize) return;
    throw new ImgfsError('limit', `${storage.name}: a snapshot of ${size} bytes, the limit is ${limits.virtualSize}`);
  }

  private all(): readonly StoredSnapshot[] {
    const { storage, header, limits } = this.parts;
    this.stored ??= readSnapshots(storage, header, limits);
    return this.stored;
  }
}
