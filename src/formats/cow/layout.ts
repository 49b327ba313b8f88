/**
 * The headers of COW images, all variants of them, and the bits of their bitmap. Early QEMU took the format from User
 * Mode Linux; neither packed its structure at first, so where a field lies depends on who wrote it and on what machine.
 */
import { join64 } from '../../lib/bits.js';

/** In big-endian files the bytes read "OOOM", in little-endian ones "MOOO". */
export const MAGIC = 0x4f4f4f4d;

/** What QEMU counts in, whatever the header says. */
export const SECTOR = 512;
/** The only kind of image there is: a bitmap, then the sectors. */
export const COW_BITMAP = 0;

export type Variant = 'qemu' | 'qemu-i386' | 'uml-v1' | 'uml-v2' | 'uml-v3' | 'uml-v3-unpacked';

/** Where the fields lie. */
export interface Layout {
  readonly variant: Variant;
  readonly version: 1 | 2 | 3;
  readonly littleEndian: boolean;
  readonly name: { readonly at: number; readonly bytes: number };
  readonly modified: number;
  readonly size: number;
  readonly sectorSize: number;
  /** What bitmap and sectors are aligned to, and the kind of image: only in version 3. */
  readonly alignment?: number;
  readonly kind?: number;
  readonly headerBytes: number;
}

const BIG = { littleEndian: false } as const;

/** QEMU on 64-bit hosts, where the size is aligned to 8: what new images have. */
export const QEMU: Layout = {
  ...BIG,
  variant: 'qemu',
  version: 2,
  name: { at: 8, bytes: 1024 },
  modified: 1032,
  size: 1040,
  sectorSize: 1048,
  headerBytes: 1056,
};

/** QEMU on i386, where 64-bit numbers are aligned to 4. */
export const QEMU_I386: Layout = {
  ...QEMU,
  variant: 'qemu-i386',
  size: 1036,
  sectorSize: 1044,
  headerBytes: 1048,
};

/** In the byte order of the host that wrote it. */
const UML_V1: Omit<Layout, 'littleEndian'> = {
  variant: 'uml-v1',
  version: 1,
  name: { at: 8, bytes: 256 },
  modified: 264,
  size: 268,
  sectorSize: 276,
  headerBytes: 280,
};
export const UML_V1_BIG: Layout = { ...UML_V1, ...BIG };
export const UML_V1_LITTLE: Layout = { ...UML_V1, littleEndian: true };

export const UML_V2: Layout = {
  ...BIG,
  variant: 'uml-v2',
  version: 2,
  name: { at: 8, bytes: 4096 },
  modified: 4104,
  size: 4108,
  sectorSize: 4116,
  headerBytes: 4120,
};

export const UML_V3: Layout = {
  ...BIG,
  variant: 'uml-v3',
  version: 3,
  modified: 8,
  size: 12,
  sectorSize: 20,
  alignment: 24,
  kind: 28,
  name: { at: 32, bytes: 4096 },
  headerBytes: 4128,
};

/** Version 3 as 64-bit hosts wrote it before December 2005: a date of 8 bytes, with the 32-bit one in its first 4. */
export const UML_V3_UNPACKED: Layout = {
  ...BIG,
  variant: 'uml-v3-unpacked',
  version: 3,
  modified: 8,
  size: 16,
  sectorSize: 24,
  alignment: 28,
  kind: 32,
  name: { at: 36, bytes: 4096 },
  headerBytes: 4136,
};

export const LAYOUTS = [QEMU, QEMU_I386, UML_V1_LITTLE, UML_V1_BIG, UML_V2, UML_V3, UML_V3_UNPACKED] as const;

/** The most that any header takes. */
export const MAX_HEADER_BYTES = UML_V3_UNPACKED.headerBytes;

/** The version a file claims, and in which byte order; undefined without the magic. Version 1 alone is host-endian. */
export function signatureOf(head: Buffer): { readonly version: number; readonly littleEndian: boolean } | undefined {
  if (head.length < 8) return undefined;
  if (head.readUInt32BE(0) === MAGIC) return { version: head.readUInt32BE(4), littleEndian: false };
  if (head.readUInt32LE(0) !== MAGIC || head.readUInt32LE(4) !== 1) return undefined;
  return { version: 1, littleEndian: true };
}

/** The header as stored, by one of the layouts. Throws `corrupt` for a size past 2^53. */
export interface HeaderFields {
  readonly name: Buffer;
  /** Date of the backing file, in seconds since 1970, cut to 32 bits. */
  readonly modified: number;
  readonly size: number;
  readonly sectorSize: number;
  /** Version 3. */
  readonly alignment: number | undefined;
  readonly kind: number | undefined;
}

/** `from` holds the whole header. Throws `corrupt` for a size past 2^53. */
export function decodeHeader(from: Buffer, layout: Layout, what: string): HeaderFields {
  const { littleEndian, name, alignment, kind } = layout;
  const u32 = (at: number): number => (littleEndian ? from.readUInt32LE(at) : from.readUInt32BE(at));
  const [high, low] = littleEndian ? [layout.size + 4, layout.size] : [layout.size, layout.size + 4];
  return {
    name: from.subarray(name.at, name.at + name.bytes),
    modified: u32(layout.modified),
    size: join64(u32(high), u32(low), `${what}: the disk size`),
    sectorSize: u32(layout.sectorSize),
    alignment: alignment === undefined ? undefined : u32(alignment),
    kind: kind === undefined ? undefined : u32(kind),
  };
}

export function encodeHeader(layout: Layout, fields: HeaderFields): Buffer {
  const header = Buffer.alloc(layout.headerBytes);
  const { littleEndian } = layout;
  const put = (at: number | undefined, value: number): void => {
    if (at === undefined) return;
    if (littleEndian) header.writeUInt32LE(value, at);
    else header.writeUInt32BE(value, at);
  };
  put(0, MAGIC);
  put(4, layout.version);
  header.set(fields.name, layout.name.at);
  put(layout.modified, fields.modified);
  const [high, low] = littleEndian ? [layout.size + 4, layout.size] : [layout.size, layout.size + 4];
  put(high, Math.floor(fields.size / 2 ** 32));
  put(low, fields.size % 2 ** 32);
  put(layout.sectorSize, fields.sectorSize);
  put(layout.alignment, fields.alignment ?? 0);
  put(layout.kind, fields.kind ?? COW_BITMAP);
  return header;
}

/** The bytes at which QEMU's two layouts and the two of version 3 differ. */
export const TELLS = {
  /** On 64-bit hosts padding, on i386 the upper half of the size. */
  qemuPadding: 1036,
  /** Unpacked, the kind of image, which is 0; packed, the backing file's name, which is not. */
  unpackedKind: 32,
} as const;

// --- the bitmap: one bit per sector, from the least significant up; 1 says that the sector lies in this file ---------

/** Whether bit `first` is set, and how many bits from it to `end` (not itself) are as it is. */
export function bitRun(bytes: Buffer, first: number, end: number): { readonly set: boolean; readonly count: number } {
  const bit = (n: number): boolean => ((bytes[n >>> 3]! >>> (n & 7)) & 1) === 1;
  const set = bit(first);
  const whole = set ? 255 : 0;
  let n = first + 1;
  while (n < end) {
    if ((n & 7) === 0 && bytes[n >>> 3] === whole) n += 8;
    else if (bit(n) === set) n++;
    else break;
  }
  return { set, count: Math.min(n, end) - first };
}

/** Sets bits `first` to `end` (not itself). */
export function setBits(bytes: Uint8Array, first: number, end: number): void {
  for (let n = first; n < end; ) {
    if ((n & 7) === 0 && n + 8 <= end) {
      bytes[n >>> 3] = 255;
      n += 8;
    } else {
      bytes[n >>> 3]! |= 1 << (n & 7);
      n++;
    }
  }
}
