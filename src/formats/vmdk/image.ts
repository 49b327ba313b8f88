/** Opening a disk: its extents, its parent, and what it takes to write it. */
import type { OpenContext } from '../../image/format.js';
import { Health } from '../../image/health.js';
import type { Image } from '../../image/image.js';
import { MappedImage } from '../../image/mapping.js';
import { writableUnits } from '../../image/unit-writer.js';
import { driverCells, unitCells } from '../../image/units.js';
import { ImgfsError } from '../../lib/errors.js';
import type { Storage } from '../../storage/storage.js';
import { Live } from './cells.js';
import type { Descriptor } from './descriptor.js';
import { type Disk, readDisk } from './disk.js';
import { type Extent, openExtents } from './extents.js';
import { infoOf } from './info.js';
import { VmdkLayer } from './layer.js';
import { SparseExtent } from './sparse.js';
import { StreamWriter } from './stream-writer.js';
import { DiskTables } from './tables.js';
import { assertWritable, VmdkTables } from './writer.js';

/** Opens a disk with its extents and its parent. Throws as `ImageFormat.open`. */
export function openImage(storage: Storage, context: OpenContext): Image {
  const disk = readDisk(storage, context);
  const storages = new Map<string, Storage>();
  let parent: Image | undefined;
  try {
    const health = new Health(context.sharing);
    const cells = driverCells(unitCells(context.sharing));
    const extents = extentsOf(disk, storage, { context, health, storages, cells });
    parent = openParent(storage.name, disk.descriptor, context);
    if (context.writable && !isFilledStream(disk, context)) assertWritable(storage.name, disk, extents);
    return assemble({ disk, storage, context, health, cells, storages, extents, parent });
  } catch (error) {
    parent?.close();
    for (const opened of storages.values()) opened.close();
    throw error;
  }
}

interface Opening {
  readonly context: OpenContext;
  readonly health: Health;
  /** Files that were opened besides the image's own. */
  readonly storages: Map<string, Storage>;
  readonly cells: Float64Array;
}

function extentsOf(disk: Disk, storage: Storage, { context, health, storages, cells }: Opening): readonly Extent[] {
  const { shape, descriptor } = disk;
  const caches = new DiskTables(context.limits, context.sharing, health);
  if (shape === undefined) return openExtents(descriptor, storage.name, { context, caches, storages });
  return [new SparseExtent({ storage, shape, size: shape.size, file: 0, caches, writable: context.writable, cells })];
}

interface Assembly extends Opening {
  readonly disk: Disk;
  readonly storage: Storage;
  readonly extents: readonly Extent[];
  readonly parent: Image | undefined;
}

function assemble({ disk, storage, context, health, cells, storages, extents, parent }: Assembly): Image {
  const { descriptor, shape } = disk;
  const { sharing, limits } = context;
  const size = extents.reduce((sum, extent) => sum + extent.size, 0);
  const live = new Live(cells, { size, cid: descriptor.cid });
  const info = infoOf({ name: storage.name, descriptor, embedded: shape !== undefined, extents, live });
  const layer = new VmdkLayer(extents, info, [storage, ...storages.values()], cells);
  const { unpackedBytes } = limits;
  if (!context.writable) return new MappedImage({ layer, backing: parent, unpackedBytes });
  if (shape !== undefined && isFilledStream(disk, context)) {
    const writer = new StreamWriter({ storage, shape, layer, health, backing: parent });
    return new MappedImage({ layer: writer, backing: parent, writing: { writer, health }, unpackedBytes });
  }
  const tables = new VmdkTables({ disk, storage, layer, live, health, context });
  return new MappedImage({
    ...writableUnits({ tables, layer, health, sharing, backing: parent }),
    backing: parent,
    unpackedBytes,
  });
}

/** A streamOptimized disk can be written once: while it is new. */
function isFilledStream({ shape }: Disk, { filling }: OpenContext): boolean {
  return filling === true && shape?.kind === 'hosted' && shape.compressed && shape.markers;
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
