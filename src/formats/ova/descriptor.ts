/** The descriptor of an appliance (an OVF document): which files it consists of, and which of them are disks. */
import { walkXml, type XmlElement } from '../../codec/xml.js';
import { corrupt, ImgfsError } from '../../lib/errors.js';
import { isMemberName } from './tar.js';

/** Longer than any that describes machines. */
export const MOST_DESCRIPTOR = 1024 * 1024;

/** A file the descriptor names: by its member name, for nothing else can be followed. */
export interface FileReference {
  readonly id: string;
  readonly href: string;
  /** Bytes, as the descriptor has it; of the packed file, where it is packed. */
  readonly size: number | undefined;
  readonly packed: 'gzip' | undefined;
  /** Set where the file is cut into chunks of so many bytes, the last of which may be shorter. */
  readonly chunkSize: number | undefined;
}

export interface DiskEntry {
  readonly id: string;
  /** Undefined for an empty disk, which has no file. */
  readonly file: FileReference | undefined;
  /** Guest bytes; undefined where the descriptor leaves that to a variable. */
  readonly capacity: number | undefined;
  readonly populated: number | undefined;
  /** As the descriptor has it: a URI. */
  readonly formatUri: string;
}

/** A type of machine, and where in the text it stands. */
export interface SystemType {
  readonly value: string;
  readonly start: number;
  readonly end: number;
}

export interface Descriptor {
  /** The document, a byte order mark included. */
  readonly text: string;
  readonly files: readonly FileReference[];
  readonly disks: readonly DiskEntry[];
  readonly systems: readonly { readonly id: string; readonly name: string | undefined }[];
  readonly systemTypes: readonly SystemType[];
  /** CIM's numbers for the kinds of devices. */
  readonly deviceTypes: ReadonlySet<string>;
}

const MARK = '\ufeff';
const MOST_FILES = 1024;

/** Parses a descriptor. Throws `corrupt`, `limit`, `refused` for what must not be followed, `unsupported`. */
export function parseDescriptor(bytes: Buffer, name: string): Descriptor {
  const text = decodeText(bytes, name);
  const files = new Map<string, FileReference>();
  const disks: XmlElement[] = [];
  const systems: { id: string; name: string | undefined }[] = [];
  const systemTypes: SystemType[] = [];
  const deviceTypes = new Set<string>();
  const names = new Map<number, string>();
  // The mark is no part of the XML, and positions are those of the text without it.
  const shift = text.startsWith(MARK) ? MARK.length : 0;
  walkXml(text.slice(shift), name, (element) => {
    const { path } = element;
    const kind = path.at(-1);
    if (path[0] !== 'Envelope') throw corrupt(`${name} is no OVF descriptor: it is a document of "${path[0]}"`);
    if (path.length === 3 && path[1] === 'References' && kind === 'File') addFile(files, element, name);
    else if (path.length === 3 && path[1] !== 'References' && kind === 'Disk') disks.push(element);
    else if (kind === 'VirtualSystem') {
      systems.push({ id: element.attribute('id') ?? '', name: names.get(path.length + 1) });
      names.clear();
    } else if (kind === 'Name' && path.at(-2) === 'VirtualSystem') names.set(path.length, element.text);
    else if (kind === 'VirtualSystemType' && path.at(-2) === 'System')
      systemTypes.push(systemType(element, shift, name));
    else if (kind === 'ResourceType') deviceTypes.add(element.text.trim());
  });
  return {
    text,
    files: [...files.values()],
    disks: disks.map((element) => diskEntry(element, files, name)),
    systems,
    systemTypes,
    deviceTypes,
  };
}

function decodeText(bytes: Buffer, name: string): string {
  if (bytes.length > MOST_DESCRIPTOR) throw new ImgfsError('limit', `${name} has ${bytes.length} bytes`);
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw notUtf8(name);
  }
  const declared = /^\ufeff?<\?xml[^>]*?\sencoding\s*=\s*["']([^"']*)["']/.exec(text)?.[1]?.toLowerCase();
  const fits = declared === undefined || declared === 'utf-8' || Buffer.byteLength(text) === text.length;
  if (!fits || text.includes('\0')) throw notUtf8(name);
  return text;
}

function notUtf8(name: string): ImgfsError {
  return new ImgfsError('unsupported', `${name} is not written in UTF-8`, { hint: 'convert it with iconv' });
}

function addFile(files: Map<string, FileReference>, element: XmlElement, name: string): void {
  if (files.size === MOST_FILES) throw new ImgfsError('limit', `${name} names more than ${MOST_FILES} files`);
  const id = element.attribute('id') ?? '';
  const href = decoded(element.attribute('href') ?? '');
  if (files.has(id)) throw corrupt(`${name} has two files with the id "${id}"`);
  if ([...files.values()].some((other) => other.href === href)) throw corrupt(`${name} names the file "${href}" twice`);
  if (!isMemberName(href) || href.includes(':')) {
    throw new ImgfsError('refused', `${name} names "${href}", which is no plain file name`, {
      hint: 'a descriptor may name only files beside it',
    });
  }
  const compression = element.attribute('compression') ?? '';
  if (!['', 'identity', 'gzip'].includes(compression)) {
    throw new ImgfsError('unsupported', `${name}: "${href}" is packed by "${compression}"`, {
      hint: 'only gzip is read',
    });
  }
  files.set(id, {
    id,
    href,
    size: bytesOf(element.attribute('size'), `${name}: the size of "${href}"`),
    packed: compression === 'gzip' ? 'gzip' : undefined,
    chunkSize: chunkSize(element.attribute('chunkSize'), `${name}: the chunk size of "${href}"`),
  });
}

/** A reference is a URI: in a name, bytes may be written as `%XX`. */
function decoded(href: string): string {
  try {
    return decodeURIComponent(href);
  } catch {
    return href;
  }
}

function chunkSize(value: string | undefined, what: string): number | undefined {
  const bytes = bytesOf(value, what);
  if (bytes === 0) throw corrupt(`${what} is 0`);
  return bytes;
}

function diskEntry(element: XmlElement, files: ReadonlyMap<string, FileReference>, name: string): DiskEntry {
  const id = element.attribute('diskId') ?? '';
  const reference = element.attribute('fileRef');
  const file = reference === undefined ? undefined : files.get(reference);
  if (reference !== undefined && file === undefined) {
    throw corrupt(`${name}: the disk "${id}" is the file "${reference}", which is not among its files`);
  }
  return {
    id,
    file,
    capacity: capacityOf(element, `${name}: the capacity of the disk "${id}"`),
    populated: bytesOf(element.attribute('populatedSize'), `${name}: the populated size of the disk "${id}"`),
    formatUri: element.attribute('format') ?? '',
  };
}

function capacityOf(element: XmlElement, what: string): number | undefined {
  const value = element.attribute('capacity');
  // A variable, which the property section gives a value.
  if (value === undefined || value.startsWith('$')) return undefined;
  const bytes = (bytesOf(value, what) ?? 0) * unitOf(element.attribute('capacityAllocationUnits') ?? 'byte', what);
  if (!Number.isSafeInteger(bytes)) throw corrupt(`${what} is beyond 2^53`);
  return bytes;
}

/** DSP0004's programmatic units as they are in use: `byte * 2^30`. OVF 0.9 had words of its own. */
function unitOf(units: string, what: string): number {
  const power = /^byte(?:\s*\*\s*2\s*\^\s*([1-5]?\d))?$/.exec(units.trim());
  if (power !== null) return 2 ** Number(power[1] ?? 0);
  const named = /^([KMGT])(?:i?B|igaBytes|egaBytes|iloBytes|eraBytes)$/i.exec(units.trim())?.[1];
  if (named !== undefined) return 1024 ** ('KMGT'.indexOf(named.toUpperCase()) + 1);
  throw new ImgfsError('unsupported', `${what} is in "${units}"`);
}

function bytesOf(value: string | undefined, what: string): number | undefined {
  if (value === undefined || value.trim() === '') return undefined;
  const digits = value.trim();
  if (!/^\d{1,16}$/.test(digits) || !Number.isSafeInteger(Number(digits))) throw corrupt(`${what} is "${digits}"`);
  return Number(digits);
}

function systemType({ text, content, plain }: XmlElement, shift: number, name: string): SystemType {
  if (!plain) throw new ImgfsError('unsupported', `${name}: a VirtualSystemType is more than plain text`);
  return { value: text.trim(), start: content.start + shift, end: content.end + shift };
}

/** The document with every type of machine replaced, and nothing else changed. */
export function withSystemType({ text, systemTypes }: Descriptor, type: string): Buffer {
  let changed = '';
  let from = 0;
  for (const { start, end } of systemTypes) {
    changed += text.slice(from, start) + type;
    from = end;
  }
  return Buffer.from(changed + text.slice(from));
}

/** The image format that a disk's URI names; undefined for one that says nothing certain: then it is looked at. */
export function formatOfUri(uri: string): string | undefined {
  return /^https?:\/\/(?:www\.)?vmware\.com\/(?:interfaces\/)?specifications\/vmdk\.html\b/i.test(uri)
    ? 'vmdk'
    : undefined;
}
