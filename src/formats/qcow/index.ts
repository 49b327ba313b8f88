import { qcowAesView } from '../../image/encrypted.js';
import type { ImageFormat, OpenContext } from '../../image/format.js';
import type { Image } from '../../image/image.js';
import { MappedImage } from '../../image/mapping.js';
import { writableUnits } from '../../image/unit-writer.js';
import { unitCells } from '../../image/units.js';
import { ImgfsError } from '../../lib/errors.js';
import type { Storage } from '../../storage/storage.js';
import { check } from './check.js';
import { creation } from './create.js';
import { QcowLayer } from './layer.js';
import { ENTRY_BYTES, isQcow, probedOwnBytes } from './layout.js';
import { QcowTables } from './tables.js';
import { Volume } from './volume.js';

/** QEMU's first format of its own, version 1. What is supported, and the traps, are in this folder's README. */
export const qcow: ImageFormat = {
  kind: 'image',
  name: 'qcow',
  summary: 'QEMU copy-on-write, version 1',
  extensions: ['.qcow'],
  can: { write: true, create: true, snapshots: false, resize: true },
  probe: isQcow,
  ownBytes: probedOwnBytes,
  open,
  creation,
  check,
};

/** Reads the header and names the backing file to the context; nothing is read of either's disk. */
function open(storage: Storage, context: OpenContext): Image {
  const volume = openVolume(storage, context);
  const { header, health } = volume;
  if (context.writable) assertWritable(volume);
  const backing = header.backing && context.openImage({ role: 'backing', name: header.backing.name });
  if (header.encryption !== undefined) openView(volume, backing, context);
  const layer = new QcowLayer(volume);
  const { unpackedBytes } = context.limits;
  if (!context.writable) return new MappedImage({ layer, backing, unpackedBytes });
  const { sharing } = context;
  const tables = new QcowTables(volume, unitCells(sharing));
  const writable = writableUnits({ tables, layer, health, sharing, backing });
  return new MappedImage({ ...writable, backing, unpackedBytes });
}

/** Asks for the passphrase. Where that fails, what was opened is closed again. */
function openView(volume: Volume, backing: Image | undefined, context: OpenContext): void {
  try {
    volume.view = qcowAesView(volume.storage, context);
  } catch (error) {
    backing?.close();
    throw error;
  }
}

/** Under the lock: another thread may be in the middle of replacing what is read here. */
function openVolume(storage: Storage, context: OpenContext): Volume {
  context.sharing?.lockShared();
  try {
    return new Volume(storage, context);
  } finally {
    context.sharing?.unlockShared();
  }
}

/** What can be read but must not be written. */
function assertWritable({ storage, header }: Volume): void {
  if (header.l1At % ENTRY_BYTES !== 0) {
    throw new ImgfsError('unsupported', `${storage.name}: sectors cut entries of its L1 table: a crash could tear one`);
  }
}
