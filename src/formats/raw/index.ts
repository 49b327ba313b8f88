import type { ImageFormat } from '../../image/format.js';
import { Health } from '../../image/health.js';
import { MappedImage } from '../../image/mapping.js';
import { creation } from './create.js';
import { RawLayer } from './layer.js';
import { RawWriter } from './writer.js';

/** A file or device whose bytes are the disk. It never probes true: it is what remains when nothing else claims. */
export const raw: ImageFormat = {
  kind: 'image',
  name: 'raw',
  summary: 'flat file or block device, of any length',
  extensions: ['.raw', '.dd', '.iso'],
  can: { write: true, create: true, snapshots: false, resize: true },
  probe: () => false,
  creation,
  open(storage, context) {
    const layer = new RawLayer(storage, context.writable, context.sharing);
    const health = new Health(context.sharing);
    const writing = context.writable
      ? { writer: new RawWriter(storage, layer, health, context.sharing), health }
      : undefined;
    return new MappedImage({ layer, writing, unpackedBytes: context.limits.unpackedBytes });
  },
};
