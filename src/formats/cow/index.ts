import type { ImageFormat, OpenContext, Reference } from '../../image/format.js';
import { Health } from '../../image/health.js';
import type { Image } from '../../image/image.js';
import { MappedImage } from '../../image/mapping.js';
import { writableUnits } from '../../image/unit-writer.js';
import { unitCells } from '../../image/units.js';
import type { Storage } from '../../storage/storage.js';
import { Bitmap } from './bitmap.js';
import { check } from './check.js';
import { creation } from './create.js';
import { assertSameBacking } from './date.js';
import { type Header, readHeader } from './header.js';
import { CowLayer } from './layer.js';
import { LAYOUTS, signatureOf } from './layout.js';
import { CowTables } from './tables.js';

/** QEMU's first copy-on-write format, and User Mode Linux's. All variants are told apart in this folder's README. */
export const cow: ImageFormat = {
  kind: 'image',
  name: 'cow',
  summary: 'copy-on-write of early QEMU (which new images are for) and User Mode Linux',
  extensions: ['.cow'],
  can: { write: true, create: true, snapshots: false, resize: false },
  /** Versions that nobody knows are this format all the same, not raw disks. */
  probe(head) {
    const signature = signatureOf(head);
    return signature !== undefined && signature.version > 0 && signature.version < 256;
  },
  /** What every variant has: the bitmap after it says what a guest wrote. */
  ownBytes: () => Math.min(...LAYOUTS.map(({ headerBytes }) => headerBytes)),
  open,
  creation,
  check,
};

/** Reads the header, and names the backing file to the context. The bitmap is read when it is needed. */
function open(storage: Storage, context: OpenContext): Image {
  const header = readHeader(storage, context.limits);
  const backing = openBacking(storage, header, context);
  const { sharing, writable } = context;
  const { unpackedBytes } = context.limits;
  const health = new Health(sharing);
  const bitmap = new Bitmap(storage, header, context, health);
  const layer = new CowLayer(storage, header, bitmap);
  if (!writable) return new MappedImage({ layer, backing, unpackedBytes });
  const tables = new CowTables(storage, header, bitmap, unitCells(sharing));
  const parts = writableUnits({ tables, layer, health, sharing, backing });
  return new MappedImage({ ...parts, backing, unpackedBytes });
}

/** User Mode Linux has raw files below its images and nothing else. QEMU stored no format: the file is probed. */
function openBacking(storage: Storage, header: Header, context: OpenContext): Image | undefined {
  if (header.backing === undefined) return undefined;
  const uml = header.layout.variant.startsWith('uml');
  const reference: Reference = { role: 'backing', name: header.backing, ...(uml ? { format: 'raw' } : {}) };
  const backing = context.openImage(reference);
  if (!uml) return backing;
  try {
    assertSameBacking(storage, header, backing, context.modified?.(reference));
    return backing;
  } catch (error) {
    backing.close();
    throw error;
  }
}
