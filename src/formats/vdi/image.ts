import type { OpenContext } from '../../image/format.js';
import type { Image, ImageInfo } from '../../image/image.js';
import { type Layer, MappedImage, type Mapping } from '../../image/mapping.js';
import { writableUnits } from '../../image/unit-writer.js';
import type { Storage } from '../../storage/storage.js';
import { infoOf } from './info.js';
import { parentReference } from './parent.js';
import { VdiTables } from './tables.js';
import { Volume } from './volume.js';

/**
 * Opens an image: reads its header, and has the context find its parent where it has one. The image owns `storage` and
 * the parent; when this throws, `storage` stays the caller's.
 */
export function openImage(storage: Storage, context: OpenContext): Image {
  const { sharing, limits } = context;
  const volume = openVolume(storage, context);
  const reference = parentReference(storage.name, volume.header, limits);
  const backing = reference && context.openImage(reference);
  const { unpackedBytes } = limits;
  const layer = new VdiLayer(volume);
  if (!context.writable) return new MappedImage({ layer, backing, unpackedBytes });
  const tables = new VdiTables(volume, sharing);
  const { health } = volume;
  return new MappedImage({ ...writableUnits({ tables, layer, health, sharing, backing }), backing, unpackedBytes });
}

/** Under the lock: another thread may be in the middle of changing the header. */
function openVolume(storage: Storage, context: OpenContext): Volume {
  const { sharing } = context;
  sharing?.lockShared();
  try {
    return new Volume(storage, context);
  } finally {
    sharing?.unlockShared();
  }
}

class VdiLayer implements Layer {
  readonly blockSize: number;
  readonly info: ImageInfo;
  private readonly storage: Storage;
  /** What an absent block is: QEMU calls it zeros where nothing can lie below. */
  private readonly free: 'hole' | 'zero';

  constructor(private readonly volume: Volume) {
    this.blockSize = volume.header.blockSize;
    this.storage = volume.storage;
    this.free = volume.header.parent === undefined ? 'zero' : 'hole';
    this.info = infoOf(volume.header);
  }

  get size(): number {
    return this.volume.header.size;
  }

  map(at: number, length: number): Mapping {
    // The header first: with it the map learns what other threads changed.
    const { blockSize } = this.volume.header;
    const within = at % blockSize;
    const { host, blocks } = this.volume.map.find((at - within) / blockSize, Math.ceil((within + length) / blockSize));
    const run = Math.min(length, blocks * blockSize - within);
    if (host === 'free') return { kind: this.free, length: run };
    if (host === 'zero') return { kind: 'zero', length: run };
    return { kind: 'data', length: run, storage: this.storage, offset: host + within, ours: true };
  }

  /** The blocks of a static image were never written one by one: the file's holes tell what was. */
  mapInDetail(at: number, length: number): Mapping {
    const mapping = this.map(at, length);
    if (mapping.kind !== 'data' || this.volume.header.type !== 'static') return mapping;
    if (mapping.offset >= this.storage.size()) return { ...mapping, zero: true };
    const run = this.storage.extent(mapping.offset);
    return { ...mapping, length: Math.min(mapping.length, run.length), zero: !run.data };
  }

  hostBytes(): number {
    return this.storage.allocated();
  }

  close(): void {
    this.storage.close();
  }
}
