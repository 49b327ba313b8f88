/** Making empty disks of the hosted kinds, with qemu-img's options and in its layout. */
import {
  type CreateContext,
  type CreateOptions,
  type Creation,
  choiceOption,
  flagOption,
  type NewBacking,
  textOption,
} from '../../image/creation.js';
import { roundUp } from '../../lib/bits.js';
import { ImgfsError } from '../../lib/errors.js';
import type { Storage } from '../../storage/storage.js';
import { descriptorText, quotable } from './descriptor-text.js';
import { ENTRY_BYTES, encodeHosted, MAX, SECTOR } from './layout.js';

const ADAPTER = choiceOption(
  'adapter_type',
  'virtual adapter the disk is meant for',
  ['ide', 'lsilogic', 'buslogic', 'legacyESX'],
  'ide',
);
const COMPAT6 = flagOption('compat6', 'hardware version 6', false);
const HARDWARE = textOption('hwversion', 'hardware version');
const TOOLS = textOption('toolsversion', 'version of the guest tools');
const ZEROED = flagOption('zeroed_grain', 'grains can be zeros without being stored', false);
const SUBFORMATS = [
  'monolithicSparse',
  'monolithicFlat',
  'twoGbMaxExtentSparse',
  'twoGbMaxExtentFlat',
  'streamOptimized',
] as const;
const SUBFORMAT = choiceOption('subformat', 'kind of disk', SUBFORMATS, 'monolithicSparse');

export const creation: Creation = {
  options: [ADAPTER, COMPAT6, HARDWARE, SUBFORMAT, TOOLS, ZEROED],
  backing: true,
  create,
};

const GRAIN_SECTORS = 128;
const GRAIN = GRAIN_SECTORS * SECTOR;
const ENTRIES = 512;
const TABLE_SECTORS = (ENTRIES * ENTRY_BYTES) / SECTOR;
const DESCRIPTOR_SECTORS = 20;
const REDUNDANT_AT = 1 + DESCRIPTOR_SECTORS;
/** What an extent of a split disk holds at most, as qemu-img has it. */
const SPLIT = 2 * 1024 ** 3;
const MAX_DIRECTORY = 64 * 1024 * 1024;
/** What VMware's tools write where no guest tools are installed. */
const NO_TOOLS = '2147483647';
const SECTORS_PER_TRACK = 63;

function create(storage: Storage, options: CreateOptions, context: CreateContext): void {
  const { values } = options;
  const subformat = values.get(SUBFORMAT);
  const flat = subformat === 'monolithicFlat' || subformat === 'twoGbMaxExtentFlat';
  const split = subformat === 'twoGbMaxExtentSparse' || subformat === 'twoGbMaxExtentFlat';
  const zeroGrains = values.get(ZEROED);
  if (flat && options.backing !== undefined) throw usage('a flat disk cannot have a backing file');
  if (flat && zeroGrains) throw usage('a flat disk has no grains that could be zeroed');
  if (values.get(COMPAT6) && values.get(HARDWARE) !== undefined)
    throw usage('compat6 and hwversion exclude each other');
  const size = roundUp(options.size, SECTOR);
  const sizes = split ? splitSizes(size, storage.name) : [size];
  const names = sizes.map((_, n) => extentName(context.fileName, flat, split, n));
  const lines = sizes.map((bytes, n) => extentLine(bytes, flat, names[n] ?? ''));
  const text = Buffer.from(textOf(options, size, subformat, lines, context));
  const kind = { zeroGrains, compressed: subformat === 'streamOptimized' };
  if (!flat && !split) {
    makeSparse(storage, size, kind, text);
    return;
  }
  for (const [n, bytes] of sizes.entries()) {
    const extent = context.makeStorage(names[n] ?? '');
    try {
      if (flat) extent.resize(bytes);
      else makeSparse(extent, bytes, kind, undefined);
      extent.flush();
    } finally {
      extent.close();
    }
  }
  // What names the extents comes last.
  storage.write(text, 0);
  storage.flush();
}

function usage(message: string): ImgfsError {
  return new ImgfsError('usage', message);
}

function splitSizes(size: number, name: string): readonly number[] {
  const count = Math.max(1, Math.ceil(size / SPLIT));
  if (count > MAX.extents) {
    throw new ImgfsError('limit', `${name}: a disk of ${size} bytes would have ${count} extents`);
  }
  return Array.from({ length: count }, (_, n) => Math.min(SPLIT, size - n * SPLIT));
}

/** As qemu-img names them: a mark and a number before the extension. */
function extentName(file: string, flat: boolean, split: boolean, n: number): string {
  const dot = file.lastIndexOf('.');
  const [stem, extension] = dot < 0 ? [file, ''] : [file.slice(0, dot), file.slice(dot)];
  if (split) return `${stem}-${flat ? 'f' : 's'}${String(n + 1).padStart(3, '0')}${extension}`;
  return flat ? `${stem}-flat${extension}` : file;
}

function extentLine(bytes: number, flat: boolean, name: string): string {
  return `RW ${bytes / SECTOR} ${flat ? 'FLAT' : 'SPARSE'} "${quotable(name)}"${flat ? ' 0' : ''}`;
}

function textOf(
  { values, backing }: CreateOptions,
  size: number,
  createType: string,
  extents: readonly string[],
  context: CreateContext,
): string {
  const adapter = values.get(ADAPTER);
  const heads = adapter === 'ide' ? 16 : 255;
  return descriptorText({
    cid: context.randomBytes(4).readUInt32LE() % (2 ** 32 - 2),
    parent: backing === undefined ? undefined : { name: backing.name, cid: cidOf(backing) },
    createType,
    extents,
    data: [
      ['virtualHWVersion', values.get(COMPAT6) ? '6' : quotable(values.get(HARDWARE) ?? '4')],
      ['geometry.cylinders', String(Math.floor(size / (SECTORS_PER_TRACK * heads * SECTOR)))],
      ['geometry.heads', String(heads)],
      ['geometry.sectors', String(SECTORS_PER_TRACK)],
      ['adapterType', adapter],
      ['toolsVersion', quotable(values.get(TOOLS) ?? NO_TOOLS)],
    ],
  });
}

/** A delta records its parent's CID, so the parent must be there and be a vmdk. */
function cidOf({ name, format, image }: NewBacking): number {
  if (format !== 'vmdk') throw usage(`the backing file of a vmdk must be a vmdk, "${name}" is ${format}`);
  const cid = image?.info.specific?.data.cid;
  if (typeof cid === 'number') return cid;
  throw usage(`the content id of "${name}" is needed, so it must be opened`);
}

interface SparseKind {
  readonly zeroGrains: boolean;
  readonly compressed: boolean;
}

/** Both directories with all their tables, which are empty: then no table is ever made later. */
function makeSparse(storage: Storage, size: number, kind: SparseKind, text: Buffer | undefined): void {
  const tables = Math.ceil(Math.ceil(size / GRAIN) / ENTRIES);
  if (tables * ENTRY_BYTES > MAX_DIRECTORY) {
    throw new ImgfsError('limit', `${storage.name}: a sparse extent of ${size} bytes is too large`);
  }
  if (text !== undefined && text.length > DESCRIPTOR_SECTORS * SECTOR) {
    throw new ImgfsError('limit', `${storage.name}: the descriptor does not fit into ${DESCRIPTOR_SECTORS} sectors`);
  }
  const directorySectors = Math.ceil((tables * ENTRY_BYTES) / SECTOR);
  const copySectors = directorySectors + tables * TABLE_SECTORS;
  const directoryAt = REDUNDANT_AT + copySectors;
  const overhead = roundUp(directoryAt + copySectors, GRAIN_SECTORS);
  storage.resize(overhead * SECTOR);
  for (const at of [REDUNDANT_AT, directoryAt]) {
    if (tables > 0) storage.write(directory(tables, at + directorySectors), at * SECTOR);
  }
  if (text !== undefined) storage.write(text, SECTOR);
  storage.flush();
  const header = encodeHosted({
    version: kind.compressed ? 3 : kind.zeroGrains ? 2 : 1,
    redundant: true,
    zeroGrains: kind.zeroGrains,
    compressed: kind.compressed,
    markers: kind.compressed,
    capacity: size / SECTOR,
    grainSectors: GRAIN_SECTORS,
    descriptorAt: text === undefined ? 0 : 1,
    descriptorSectors: text === undefined ? 0 : DESCRIPTOR_SECTORS,
    entriesPerTable: ENTRIES,
    redundantAt: REDUNDANT_AT,
    directoryAt,
    overhead,
    unclean: false,
    compression: kind.compressed ? 1 : 0,
  });
  storage.write(header, 0);
  storage.flush();
}

/** A directory whose tables follow each other from sector `at` on. */
function directory(tables: number, at: number): Buffer {
  const bytes = Buffer.alloc(tables * ENTRY_BYTES);
  for (let n = 0; n < tables; n++) bytes.writeUInt32LE(at + n * TABLE_SECTORS, n * ENTRY_BYTES);
  return bytes;
}
