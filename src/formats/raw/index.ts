import type { ImageFormat } from '../../image/format.js';
import { type Layer, MappedImage } from '../../image/mapping.js';
import type { Storage } from '../../storage/storage.js';

/** A file or device whose bytes are the disk. It never probes true: it is what remains when nothing else claims. */
export const raw: ImageFormat = {
  kind: 'image',
  name: 'raw',
  summary: 'flat file or block device, of any length',
  extensions: ['.raw', '.dd', '.iso'],
  can: { write: false, create: false, snapshots: false, resize: false },
  probe: () => false,
  open: (storage, context) =>
    new MappedImage({ layer: rawLayer(storage), unpackedBytes: context.limits.unpackedBytes }),
};

/** One mapping for the whole disk. Only a map of it asks the host for holes: a read never needs to know. */
function rawLayer(storage: Storage): Layer {
  return {
    size: storage.size(),
    blockSize: 4096,
    info: { format: 'raw', dirty: false, encrypted: false, compressed: false },
    map: (at, length) => ({ kind: 'data', length, storage, offset: at }),
    mapInDetail(at, length) {
      const run = storage.extent(at);
      return { kind: run.data ? 'data' : 'zero', length: Math.min(run.length, length), storage, offset: at };
    },
    hostBytes: () => storage.allocated(),
    close: () => storage.close(),
  };
}
