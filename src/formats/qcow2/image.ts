import { type PlainView, qcowAesView } from '../../image/encrypted.js';
import type { OpenContext } from '../../image/format.js';
import type { Image, ImageInfo, Snapshot } from '../../image/image.js';
import { type Layer, MappedImage, type Mapping, type SnapshotSource } from '../../image/mapping.js';
import { corrupt, ImgfsError } from '../../lib/errors.js';
import type { Storage } from '../../storage/storage.js';
import { openLuks } from './encryption.js';
import { type Header, readHeader } from './header.js';
import { infoOf } from './info.js';
import { CompressedCluster, Unpacker } from './read/compressed.js';
import { KIND } from './read/layout.js';
import { Lookup } from './read/lookup.js';
import { Preallocation } from './read/preallocation.js';
import { type L1, readL1 } from './read/tables.js';
import { readSnapshots, type StoredSnapshot } from './snapshots.js';
import { Volume } from './write/volume.js';
import { Qcow2Writer } from './write/writer.js';

/**
 * Opens an image: reads its header and its L1 table, names its backing file and data file to the context, and reads
 * nothing of either. The image owns `storage` and what the context returned; when this throws, what the context
 * returned is closed again, and `storage` stays the caller's.
 */
export function openImage(storage: Storage, context: OpenContext): Image {
  const { header, volume } = openVolume(storage, context);
  try {
    volume.view = openView(volume, context);
    const parts = new Parts(volume);
    const backing = header.backing && context.openImage({ role: 'backing', format: undefined, ...header.backing });
    if (context.writable) volume.backing = backing;
    const { unpackedBytes } = context.limits;
    const writing = context.writable ? { writer: new Qcow2Writer(volume), health: volume.health } : undefined;
    return new MappedImage({ layer: parts.active(), backing, snapshots: new Snapshots(parts), writing, unpackedBytes });
  } catch (error) {
    volume.view?.close();
    if (volume.data !== storage) volume.data.close();
    throw error;
  }
}

/** Under the lock: another thread may be in the middle of replacing what is read here. */
function openVolume(storage: Storage, context: OpenContext): { header: Header; volume: Volume } {
  const { sharing } = context;
  sharing?.lockShared();
  try {
    const header = readHeader(storage, context.limits);
    if (context.writable) assertWritable(storage, header, context.warn);
    const data = header.external ? openDataFile(storage, header, context) : storage;
    try {
      return { header, volume: new Volume(storage, data, header, context) };
    } catch (error) {
      if (data !== storage) data.close();
      throw error;
    }
  } finally {
    sharing?.unlockShared();
  }
}

/** What we can read but must not write. A dirty image is repaired before its first change, which may never come. */
function assertWritable(storage: Storage, header: Header, warn: OpenContext['warn']): void {
  const { name } = storage;
  if (header.corrupt) {
    throw new ImgfsError('corrupt', `${name}: marked as corrupt`, { hint: 'repair it before it is written' });
  }
  if (header.dirty) warn?.(`${name}: its last writer did not finish; it is repaired before its first change`);
}

function openDataFile(storage: Storage, header: Header, context: OpenContext): Storage {
  const name = header.extensions.dataFile ?? '';
  if (name === '') throw new ImgfsError('missing', `${storage.name}: needs an external data file, but names none`);
  return context.openStorage({ role: 'data-file', name });
}

/** Asks for the passphrase of an encrypted image, where its contents are wanted. */
function openView({ storage, data, live }: Volume, context: OpenContext): PlainView | undefined {
  const { encryption, crypto } = live.now;
  if (encryption === undefined) return undefined;
  return crypto === undefined ? qcowAesView(data, context) : openLuks(storage, data, crypto, context);
}

interface LayerSpec {
  readonly l1: L1;
  /** Guest offset at which the layer begins: 0 for a disk, past the disk for saved machine state. */
  readonly base: number;
  /** The active layer's changes. */
  readonly size: number | undefined;
}

/** What all layers of one opened image share. */
class Parts {
  readonly info: ImageInfo;
  private readonly unpacker: Unpacker;
  private readonly preallocation: Preallocation;

  constructor(readonly volume: Volume) {
    const { storage, live, limits } = volume;
    this.info = infoOf(storage, () => live.now, limits);
    this.unpacker = new Unpacker(storage, live.now.compression);
    this.preallocation = new Preallocation(storage, () => live.now);
  }

  active(): Layer {
    return this.layer({ l1: this.volume.l1, base: 0, size: undefined });
  }

  layer(spec: LayerSpec): Layer {
    const { storage, live, l2 } = this.volume;
    const lookup = new Lookup(storage.name, live.now, spec.l1, l2, spec.size === undefined);
    return new Qcow2Layer(this, spec, lookup, this.unpacker, this.preallocation);
  }

  close(): void {
    const { storage, data, l2, view } = this.volume;
    view?.close();
    l2.clear();
    if (data !== storage) data.close();
    storage.close();
  }
}

class Qcow2Layer implements Layer {
  readonly blockSize: number;
  readonly info: ImageInfo;
  private readonly volume: Volume;

  constructor(
    private readonly parts: Parts,
    private readonly spec: LayerSpec,
    private readonly lookup: Lookup,
    private readonly unpacker: Unpacker,
    private readonly preallocation: Preallocation,
  ) {
    this.volume = parts.volume;
    this.blockSize = parts.volume.live.now.clusterSize;
    this.info = parts.info;
  }

  get size(): number {
    if (this.spec.size !== undefined) return this.spec.size;
    this.volume.catchUp();
    return this.volume.live.now.size;
  }

  map(at: number, length: number): Mapping {
    const { lookup, volume } = this;
    volume.catchUp();
    const guest = this.spec.base + at;
    lookup.find(guest, length);
    const { offset } = lookup;
    const storage = volume.view === undefined ? volume.data : volume.content(guest, offset);
    switch (lookup.kind) {
      case KIND.data:
        return { kind: 'data', length: lookup.length, storage, offset, ours: this.owns && lookup.owned };
      case KIND.zero:
        return { kind: 'zero', length: lookup.length };
      case KIND.zeroAllocated:
        return { kind: 'zero', length: lookup.length, storage, offset };
      case KIND.holeAllocated:
        return { kind: 'hole', length: lookup.length, storage, offset };
      case KIND.compressed:
        return { kind: 'packed', length: lookup.length, unit: this.compressed() };
      default:
        return { kind: 'hole', length: lookup.length };
    }
  }

  mapInDetail(at: number, length: number): Mapping {
    const mapping = this.map(at, length);
    // What an encrypted image holds is never zeros because the host's are.
    if (mapping.kind !== 'data' || this.volume.view !== undefined) return mapping;
    return this.preallocation.refine(mapping);
  }

  hostBytes(): number {
    const { storage, data } = this.volume;
    return data === storage ? storage.allocated() : storage.allocated() + data.allocated();
  }

  /** The active layer closes the files; snapshots only borrow them. */
  close(): void {
    if (this.spec.size === undefined) this.parts.close();
  }

  /** Until the image is ready for changes nothing may be overwritten, not even in place. */
  private get owns(): boolean {
    return this.spec.size === undefined && this.volume.ready;
  }

  private compressed(): CompressedCluster {
    const { storage, view } = this.volume;
    if (view !== undefined) {
      throw corrupt(`${storage.name}: a compressed cluster in an encrypted image, which is never written`);
    }
    const { within } = this.lookup;
    const place = this.lookup.packed();
    return new CompressedCluster(place.offset, this.blockSize, within, place, this.unpacker);
  }
}

/** The snapshot table is read at first use: a damaged one must not keep the disk itself from being read. */
class Snapshots implements SnapshotSource {
  private stored: readonly StoredSnapshot[] | undefined;
  private storedFor: Header | undefined;

  constructor(private readonly parts: Parts) {}

  list(): readonly Snapshot[] {
    return this.all().map(({ snapshot }) => snapshot);
  }

  layer(id: string): Layer {
    const { snapshot, l1 } = this.load(id);
    this.assertSize(snapshot.diskSize);
    return this.parts.layer({ l1, base: 0, size: snapshot.diskSize });
  }

  /** The state lies behind the disk, at the first L1 entry that maps none of it; the L1 must cover it. */
  vmState(id: string): Layer {
    const { storage, live } = this.parts.volume;
    const { snapshot, l1 } = this.load(id);
    const { vmStateSize: size, diskSize } = snapshot;
    if (size === 0) throw new ImgfsError('missing', `${storage.name}: snapshot ${id} holds no machine state`);
    const { tableSpan } = live.now;
    const base = Math.ceil(diskSize / tableSpan) * tableSpan;
    if (base + size > (l1.words.length / 2) * tableSpan) {
      throw corrupt(`${storage.name}: snapshot ${id} claims more machine state than it maps`);
    }
    return this.parts.layer({ l1, base, size });
  }

  private load(id: string): { snapshot: Snapshot; l1: L1 } {
    const { storage, limits, live } = this.parts.volume;
    const found = this.all().find(({ snapshot }) => snapshot.id === id);
    if (found === undefined) throw new ImgfsError('missing', `${storage.name}: no snapshot has the id ${id}`);
    const words = readL1(storage, limits, found.l1At, found.l1Entries, live.now);
    return { snapshot: found.snapshot, l1: { words } };
  }

  private assertSize(size: number): void {
    const { storage, limits } = this.parts.volume;
    if (size <= limits.virtualSize) return;
    throw new ImgfsError('limit', `${storage.name}: a snapshot of ${size} bytes, the limit is ${limits.virtualSize}`);
  }

  /** Read again when the header changed: every change of the table changes it too. */
  private all(): readonly StoredSnapshot[] {
    const { volume } = this.parts;
    volume.catchUp();
    const header = volume.live.now;
    if (this.stored === undefined || header !== this.storedFor) {
      this.stored = readSnapshots(volume.storage, header, volume.limits);
      this.storedFor = header;
    }
    return this.stored;
  }
}
