import { checkTable, type Limits } from '../../image/limits.js';
import { roundUp } from '../../lib/bits.js';
import { corrupt, ImgfsError } from '../../lib/errors.js';
import { storedText } from '../../lib/stored-text.js';
import { readPadded, readTable, type Storage } from '../../storage/storage.js';
import {
  COW_BITMAP,
  decodeHeader,
  type HeaderFields,
  type Layout,
  MAX_HEADER_BYTES,
  QEMU,
  QEMU_I386,
  SECTOR,
  signatureOf,
  TELLS,
  UML_V1_BIG,
  UML_V1_LITTLE,
  UML_V2,
  UML_V3,
  UML_V3_UNPACKED,
} from './layout.js';

/** Magic and version. */
const SIGNATURE_BYTES = 8;
const SECTOR_SIZE = { least: 512, most: 65_536 } as const;
const MAX_ALIGNMENT = 1024 * 1024;

/** A header every field of which has passed its limit. All offsets and lengths are bytes. */
export interface Header {
  readonly layout: Layout;
  readonly size: number;
  readonly sectorSize: number;
  readonly sectors: number;
  readonly bitmapAt: number;
  readonly bitmapBytes: number;
  /** Where sector 0 lies; each has its place, whether it is used or not. */
  readonly dataAt: number;
  readonly backing: string | undefined;
  /** The backing file's date, 32 bits of it. */
  readonly modified: number;
}

/**
 * Reads and validates the header; the bitmap is only measured. Throws `corrupt`, `truncated`, `limit`, and
 * `unsupported` for versions there never were.
 */
export function readHeader(storage: Storage, limits: Limits): Header {
  const { name } = storage;
  const head = Buffer.alloc(MAX_HEADER_BYTES);
  readTable(storage, head.subarray(0, SIGNATURE_BYTES), 0, 'header');
  readPadded(storage, head, 0);
  const layout = layoutOf(head, storage);
  if (storage.size() < layout.headerBytes)
    throw new ImgfsError('truncated', `${name}: the image ends inside its header`);
  const fields = decodeHeader(head, layout, name);
  checkFields(fields, name, limits);
  const header = { ...geometryOf(layout, fields), ...backingOf(fields), modified: fields.modified };
  const { bitmapAt, bitmapBytes, dataAt } = header;
  if (bitmapAt + bitmapBytes > dataAt) {
    throw new ImgfsError('unsupported', `${name}: its bitmap is too short for its last sectors`, {
      hint: 'a fault of User Mode Linux in this version and for disks of this size: their content is not known',
    });
  }
  // It is read in pieces: the size of the disk limits it.
  const claim = { name: 'bitmap', at: bitmapAt, entries: bitmapBytes, maxBytes: bitmapBytes };
  checkTable(storage, { ...claim, entryBytes: 1, alignment: 1 });
  return header;
}

/** Who wrote the header. Throws `corrupt` where it can have been nobody, or either of two. */
function layoutOf(head: Buffer, storage: Storage): Layout {
  const { name } = storage;
  const signature = signatureOf(head);
  if (signature === undefined) throw corrupt(`${name}: not a COW image (wrong magic)`);
  if (signature.version === 1) return signature.littleEndian ? UML_V1_LITTLE : UML_V1_BIG;
  if (signature.version === 3) return head.readUInt32BE(TELLS.unpackedKind) === COW_BITMAP ? UML_V3_UNPACKED : UML_V3;
  if (signature.version !== 2) throw new ImgfsError('unsupported', `${name}: COW version ${signature.version}`);
  const [only, other] = version2(head, storage);
  if (only === undefined) throw corrupt(`${name}: neither QEMU nor User Mode Linux wrote this header`);
  if (other !== undefined) throw corrupt(`${name}: the header can be read in two ways`);
  return only;
}

/**
 * The three layouts of version 2 that the header can be in. QEMU's come first: where they have the sector size, User
 * Mode Linux has the end of a name. Where that has it, QEMU has the bitmap or what a guest wrote, so it says nothing.
 * Between QEMU's two, where both are possible, the length of the file decides: neither disk is empty then.
 */
function version2(head: Buffer, storage: Storage): readonly Layout[] {
  const said = (layout: Layout): boolean => head.readUInt32BE(layout.sectorSize) === SECTOR;
  const qemu = [
    ...(said(QEMU) && head.readUInt32BE(TELLS.qemuPadding) === 0 ? [QEMU] : []),
    ...(said(QEMU_I386) && head.readUInt32BE(QEMU_I386.size + 4) % SECTOR === 0 ? [QEMU_I386] : []),
  ];
  if (qemu.length === 0) return said(UML_V2) ? [UML_V2] : [];
  if (qemu.length === 1) return qemu;
  const fileBytes = storage.size();
  return qemu.filter((layout) => {
    const { bitmapAt, bitmapBytes, dataAt, size: disk } = geometryOf(layout, decodeHeader(head, layout, storage.name));
    return disk > 0 && bitmapAt + bitmapBytes <= fileBytes && fileBytes <= dataAt + disk;
  });
}

function checkFields({ size, sectorSize, alignment, kind }: HeaderFields, name: string, limits: Limits): void {
  if (sectorSize < SECTOR_SIZE.least || sectorSize > SECTOR_SIZE.most || !Number.isInteger(Math.log2(sectorSize))) {
    throw corrupt(`${name}: sectors of ${sectorSize} bytes`);
  }
  if (alignment !== undefined && (alignment === 0 || alignment % SECTOR !== 0)) {
    throw corrupt(`${name}: an alignment of ${alignment} bytes`);
  }
  if (alignment !== undefined && alignment > MAX_ALIGNMENT) {
    throw new ImgfsError('limit', `${name}: an alignment of ${alignment} bytes, the limit is ${MAX_ALIGNMENT}`);
  }
  if (kind !== undefined && kind !== COW_BITMAP) throw new ImgfsError('unsupported', `${name}: COW format ${kind}`);
  if (size > limits.virtualSize) {
    throw new ImgfsError('limit', `${name}: a disk of ${size} bytes, the limit is ${limits.virtualSize}`);
  }
}

type Geometry = Omit<Header, 'backing' | 'modified'>;

/** Where bitmap and sectors lie. */
export function geometryOf(layout: Layout, { size, sectorSize, alignment }: HeaderFields): Geometry {
  const { headerBytes, variant } = layout;
  const sectors = Math.ceil(size / sectorSize);
  const bitmapBytes = Math.ceil(sectors / 8);
  const bitmapAt = alignment === undefined ? headerBytes : roundUp(headerBytes, alignment);
  // User Mode Linux forgot in its first two versions to round up.
  const counted = variant === 'uml-v1' || variant === 'uml-v2' ? Math.floor(sectors / 8) : bitmapBytes;
  const dataAt = roundUp(bitmapAt + counted, alignment ?? sectorSize);
  return { layout, size, sectorSize, sectors, bitmapAt, bitmapBytes, dataAt };
}

function backingOf({ name }: HeaderFields): Pick<Header, 'backing'> {
  const text = storedText(name);
  return { backing: text === '' ? undefined : text };
}
