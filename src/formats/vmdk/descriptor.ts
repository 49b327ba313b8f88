/**
 * The descriptor: a text of lines `key = value` and lines that name extents, in a file of its own or inside a sparse
 * extent. Read with everything VMware's products put up with: any case of keys, spaces around `=`, either line end.
 */
import { corrupt, ImgfsError } from '../../lib/errors.js';
import { MAX, SECTOR } from './layout.js';

const TYPES = ['FLAT', 'SPARSE', 'ZERO', 'VMFS', 'VMFSSPARSE', 'SESPARSE'] as const;
const ACCESS = ['RW', 'RDONLY', 'NOACCESS'] as const;

export type ExtentType = (typeof TYPES)[number];
export type ExtentAccess = (typeof ACCESS)[number];

/** Where digits stand in the text of a descriptor. */
export interface Digits {
  readonly at: number;
  readonly length: number;
}

/** One line that names an extent. */
export interface ExtentLine {
  readonly access: ExtentAccess;
  readonly type: ExtentType;
  /** Guest bytes. */
  readonly size: number;
  /** Where the text says how many sectors that is. */
  readonly digits: Digits;
  /** The file; a ZERO extent has none. */
  readonly name: string | undefined;
  /** Where the extent begins in its file, in bytes. */
  readonly offset: number;
}

export interface Descriptor {
  readonly createType: string;
  readonly cid: number;
  /** The parent's CID; undefined where the disk has no parent. */
  readonly parentCid: number | undefined;
  /** The parent's name as stored; undefined where there is none, or it was not recorded. */
  readonly parentName: string | undefined;
  readonly extents: readonly ExtentLine[];
  /** VMware keeps a list of changed blocks beside the disk, which a writer that ignores it makes worthless. */
  readonly tracked: boolean;
  /** Where the digits of the CID stand in the text, to be replaced in place. */
  readonly cidDigits: Digits | undefined;
}

const NO_PARENT = 2 ** 32 - 1;

/** Kinds of disk whose extents are files. */
const CREATE_TYPES = [
  'monolithicSparse',
  'monolithicFlat',
  'twoGbMaxExtentSparse',
  'twoGbMaxExtentFlat',
  '2GbMaxExtentSparse',
  '2GbMaxExtentFlat',
  'streamOptimized',
  'vmfs',
  'vmfsThin',
  'vmfsPreallocated',
  'vmfsEagerZeroedThick',
  'vmfsSparse',
  'seSparse',
  'custom',
];
/** Kinds of disk that are a device of the host: recognised, and never followed to it. */
const DEVICE_TYPES = [
  'fullDevice',
  'partitionedDevice',
  'vmfsRaw',
  'vmfsRDM',
  'vmfsRDMP',
  'vmfsRawDeviceMap',
  'vmfsPassthroughRawDeviceMap',
];
const DEVICE_EXTENTS = ['VMFSRAW', 'VMFSRDM'];

/** Where a line begins in the text, and its text without its end: one character per byte. */
interface Line {
  readonly at: number;
  readonly text: string;
}

/**
 * Reads a descriptor. `bytes` may be padded with NULs; `name` is for messages. Throws `corrupt`, `limit`, and
 * `unsupported` for kinds of disks, extents and encodings we do not know, and for those that are devices.
 */
export function parseDescriptor(bytes: Buffer, name: string): Descriptor {
  const lines = linesOf(bytes);
  const values = valuesOf(lines);
  const decode = decoderOf(values.get('encoding')?.text, name);
  const extents = lines.flatMap((line) => extentOf(line, decode, name) ?? []);
  if (extents.length > MAX.extents) {
    throw new ImgfsError('limit', `${name}: ${extents.length} extents, the limit is ${MAX.extents}`);
  }
  const parentCid = cidOf(values, 'parentcid', name);
  const hint = values.get('parentfilenamehint')?.text;
  const cid = values.get('cid');
  return {
    createType: createTypeOf(values.get('createtype')?.text, name),
    cid: cidOf(values, 'cid', name),
    parentCid: parentCid === NO_PARENT ? undefined : parentCid,
    parentName: hint === undefined ? undefined : decode(hint),
    extents,
    tracked: values.has('changetrackpath'),
    cidDigits: cid === undefined ? undefined : { at: cid.at, length: cid.text.length },
  };
}

/** The text ends with the first NUL. */
function linesOf(bytes: Buffer): readonly Line[] {
  const end = bytes.indexOf(0);
  let at = 0;
  return bytes
    .toString('latin1', 0, end < 0 ? bytes.length : end)
    .split('\n')
    .map((text) => {
      const line = { at, text: text.replace(/\r$/, '') };
      at += text.length + 1;
      return line;
    });
}

const ASSIGNMENT = /^([ \t]*([\w.]+)[ \t]*=[ \t]*"?)([^"]*?)"?[ \t]*$/;

/** Values by key in lower case, without their quotes; of two equal keys the first counts. */
function valuesOf(lines: readonly Line[]): ReadonlyMap<string, Line> {
  const values = new Map<string, Line>();
  for (const { at, text } of lines) {
    const [, before = '', key = '', value = ''] = ASSIGNMENT.exec(text) ?? [];
    const known = key.toLowerCase();
    if (key !== '' && !values.has(known)) values.set(known, { at: at + before.length, text: value });
  }
  return values;
}

/** Names are bytes of some encoding; what is plain ASCII needs none. */
function decoderOf(encoding: string | undefined, name: string): (text: string) => string {
  return (text) => {
    if (/^[\0-\x7f]*$/.test(text)) return text;
    const label = encoding ?? 'UTF-8';
    try {
      return new TextDecoder(label, { fatal: true }).decode(Buffer.from(text, 'latin1'));
    } catch (error) {
      throw new ImgfsError('unsupported', `${name}: a name cannot be read as ${label}`, { cause: error });
    }
  };
}

function createTypeOf(type: string | undefined, name: string): string {
  if (type === undefined || type === '')
    throw new ImgfsError('unsupported', `${name}: says not what kind of disk it is`);
  const same = (known: string): boolean => known.toLowerCase() === type.toLowerCase();
  const device = DEVICE_TYPES.find(same);
  if (device !== undefined) throw isDevice(name, device);
  const known = CREATE_TYPES.find(same);
  if (known === undefined) throw new ImgfsError('unsupported', `${name}: unknown kind of disk "${type}"`);
  return known;
}

function isDevice(name: string, kind: string): ImgfsError {
  return new ImgfsError('unsupported', `${name}: a ${kind} disk is a device of the host, which imgfs does not follow`, {
    hint: 'name the device itself, with --format raw',
  });
}

/** A CID is up to eight hexadecimal digits. Every text has its own and its parent's. */
function cidOf(values: ReadonlyMap<string, Line>, key: string, name: string): number {
  const text = values.get(key)?.text ?? '';
  if (!/^[0-9a-f]{1,8}$/i.test(text)) throw new ImgfsError('unsupported', `${name}: "${text}" is no content id`);
  return Number.parseInt(text, 16);
}

const EXTENT_START = /^[ \t]*(RW|RDONLY|NOACCESS)[ \t]/i;
const EXTENT = /^([ \t]*(\w+)[ \t]+)(\d{1,16})[ \t]+(\w+)(?:[ \t]+"([^"]+)"(?:[ \t]+(\d{1,16}))?.*)?[ \t]*$/;

/** The extent a line names, or undefined for any other line. Throws where such a line cannot be read. */
function extentOf({ at, text }: Line, decode: (text: string) => string, name: string): ExtentLine | undefined {
  if (!EXTENT_START.test(text)) return undefined;
  const [, before = '', accessWord = '', sectors = '', typeWord = '', file, offset] = EXTENT.exec(text) ?? [];
  const access = ACCESS.find((known) => known === accessWord.toUpperCase());
  if (access === undefined) throw unreadable(name, text);
  const type = typeOf(typeWord, name);
  const size = Number(sectors) * SECTOR;
  const start = Number(offset ?? 0) * SECTOR;
  if (!Number.isSafeInteger(size + start)) throw unreadable(name, text);
  if ((file === undefined) !== (type === 'ZERO')) throw unreadable(name, text);
  if (offset !== undefined && start !== 0 && type !== 'FLAT' && type !== 'VMFS') throw unreadable(name, text);
  // As QEMU has it; nothing could be read there.
  if (size === 0) return undefined;
  const digits = { at: at + before.length, length: sectors.length };
  return { access, type, size, digits, name: file === undefined ? undefined : decode(file), offset: start };
}

function typeOf(word: string, name: string): ExtentType {
  const type = TYPES.find((known) => known === word.toUpperCase());
  if (type !== undefined) return type;
  const device = DEVICE_EXTENTS.find((known) => known === word.toUpperCase());
  if (device !== undefined) throw isDevice(name, device);
  throw new ImgfsError('unsupported', `${name}: unknown kind of extent "${word}"`);
}

function unreadable(name: string, line: string): ImgfsError {
  return corrupt(`${name}: cannot make out the extent "${line.trim()}"`);
}

const PROBED_BYTES = 4096;
const FIRST_LINE = /^(?:# Disk DescriptorFile|version\s{0,9}=\s{0,9}\d{1,9}$)/i;

/** Whether a descriptor begins here: after comments and empty lines at most, line by line as VMware does. */
export function isDescriptor(head: Buffer): boolean {
  for (const line of head.toString('latin1', 0, PROBED_BYTES).split('\n')) {
    const words = line.trim();
    if (FIRST_LINE.test(words)) return true;
    if (words !== '' && !words.startsWith('#')) return false;
  }
  return false;
}
