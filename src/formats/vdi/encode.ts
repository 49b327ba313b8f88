import { SECTOR } from './header.js';
import { CURRENT, encodePreheader, HEADER_SIZE, OLD, type Places, UUID_BYTES, VERSION } from './layout.js';

/** The text that QEMU writes; VirtualBox's differs from version to version. */
const TEXT = '<<< QEMU VM Virtual Disk Image >>>\n';

/** What a header says; offsets and sizes in bytes, UUIDs as they are stored. */
export interface HeaderFields {
  readonly type: number;
  readonly size: number;
  readonly blockSize: number;
  readonly blockExtra?: number;
  readonly blocks: number;
  readonly allocated: number;
  readonly mapAt: number;
  readonly dataAt: number;
  readonly uuid: Uint8Array;
  readonly modified: Uint8Array;
  readonly link?: Uint8Array;
  readonly parentModified?: Uint8Array;
}

/** The first sector of an image of version 1.1, with QEMU's header length. */
export function encodeHeader(fields: HeaderFields): Buffer {
  const sector = Buffer.alloc(SECTOR);
  encodePreheader(sector, TEXT, VERSION.current);
  putFields(sector, CURRENT, fields);
  return sector;
}

/** The header of an image of the first version; places of map and data follow from it. */
export function encodeOldHeader(fields: HeaderFields): Buffer {
  const header = Buffer.alloc(OLD.bytes);
  encodePreheader(header, TEXT, VERSION.old[1]);
  putFields(header, OLD, fields);
  return header;
}

function putFields(into: Buffer, places: Places, fields: HeaderFields): void {
  const put = (at: number | undefined, value: number | undefined): void => {
    if (at !== undefined && value !== undefined) into.writeUInt32LE(value, at);
  };
  put(places.headerSize, HEADER_SIZE.least);
  put(places.type, fields.type);
  put(places.mapAt, fields.mapAt);
  put(places.dataAt, fields.dataAt);
  put(places.sectorSize, SECTOR);
  into.writeBigUInt64LE(BigInt(fields.size), places.diskSize);
  put(places.blockSize, fields.blockSize);
  put(places.blockExtra, fields.blockExtra);
  put(places.blocks, fields.blocks);
  put(places.allocated, fields.allocated);
  const uuid = (at: number | undefined, bytes: Uint8Array | undefined): void => {
    if (at !== undefined && bytes !== undefined) into.set(bytes.subarray(0, UUID_BYTES), at);
  };
  uuid(places.uuid, fields.uuid);
  uuid(places.modified, fields.modified);
  uuid(places.link, fields.link);
  uuid(places.parentModified, fields.parentModified);
}
