/** Where the members of a tar archive lie, so that each can be read in place. Strict and bounded: archives are hostile. */
import { roundUp } from '../../lib/bits.js';
import { corrupt, ImgfsError } from '../../lib/errors.js';
import { readTable, type Storage } from '../../storage/storage.js';
import { BLOCK, decodeHeader, isEnd, type TarHeader, TYPES } from './layout.js';

/** A regular member under a plain name. */
export interface TarMember {
  readonly name: string;
  readonly at: number;
  readonly size: number;
}

/** A member that is not offered, and why. */
export interface PassedOver {
  readonly name: string;
  readonly why: string;
}

export interface TarIndex {
  /** In the order of the archive; no two have the same name. */
  readonly members: readonly TarMember[];
  readonly passedOver: readonly PassedOver[];
}

const MOST_MEMBERS = 4096;
/** Of a long name, and of the pax records of one member. */
const MOST_EXTRA = 64 * 1024;
const LONGEST_NAME = 255;

const KINDS: Readonly<Record<string, string>> = {
  [TYPES.hardLink]: 'a link',
  [TYPES.symbolicLink]: 'a link',
  [TYPES.characterDevice]: 'a device',
  [TYPES.blockDevice]: 'a device',
  [TYPES.directory]: 'a directory',
  [TYPES.fifo]: 'a FIFO',
};

/** What a header before the member says of it. */
interface Extra {
  name?: Buffer;
  size?: number;
}

/**
 * Reads every header. Throws `truncated` where a member or a header is cut off, `corrupt`, `limit`, `unsupported` for
 * sparse members, and `refused` where two members have one name: which of them is meant nobody can know.
 */
export function readTar(storage: Storage): TarIndex {
  const members = new Map<string, TarMember>();
  const passedOver: PassedOver[] = [];
  let extra: Extra = {};
  const size = storage.size();
  for (let at = 0, count = 0; at < size; count++) {
    if (count === MOST_MEMBERS) throw new ImgfsError('limit', `${storage.name} has more than ${MOST_MEMBERS} headers`);
    const block = Buffer.alloc(BLOCK);
    readTable(storage, block, at, `header at ${at}`);
    if (isEnd(block)) break;
    const header = decodeHeader(block, `${storage.name}: the block at ${at}`);
    const dataAt = at + BLOCK;
    const length = KINDS[header.type] === undefined ? (extra.size ?? header.size) : 0;
    if (dataAt + length > size) {
      throw new ImgfsError('truncated', `${storage.name} ends inside "${shown(extra.name ?? header.name)}"`);
    }
    at = dataAt + roundUp(length, BLOCK);
    if (isExtra(header)) {
      extra = { ...extra, ...readExtra(storage, header, dataAt) };
      continue;
    }
    const found = memberOf(storage, header, extra, { at: dataAt, size: length });
    extra = {};
    if ('why' in found) passedOver.push(found);
    else if (members.has(found.name)) throw new ImgfsError('refused', `${storage.name} holds "${found.name}" twice`);
    else members.set(found.name, found);
  }
  return { members: [...members.values()], passedOver };
}

function isExtra({ type }: TarHeader): boolean {
  return type === TYPES.longName || type === TYPES.longLink || type === TYPES.pax || type === TYPES.paxGlobal;
}

function readExtra(storage: Storage, { type, size }: TarHeader, at: number): Extra {
  if (size > MOST_EXTRA) {
    throw new ImgfsError('limit', `${storage.name}: the additional header at ${at} has ${size} bytes`);
  }
  // What holds for all members, and where links lead, decides nothing here.
  if (type === TYPES.paxGlobal || type === TYPES.longLink) return {};
  const bytes = Buffer.alloc(size);
  readTable(storage, bytes, at, `additional header at ${at}`);
  if (type === TYPES.pax) return paxRecords(bytes, `${storage.name}: the pax header at ${at}`);
  const end = bytes.indexOf(0);
  return { name: end < 0 ? bytes : bytes.subarray(0, end) };
}

/** Records are `LENGTH KEY=VALUE\n`; LENGTH counts all of it. */
function paxRecords(bytes: Buffer, what: string): Extra {
  const extra: Extra = {};
  for (let at = 0; at < bytes.length; ) {
    const space = bytes.indexOf(' ', at);
    const digits = bytes.subarray(at, Math.max(at, space)).toString('latin1');
    const end = at + Number(digits);
    const equals = bytes.indexOf('=', space);
    const whole = /^[1-9]\d{0,5}$/.test(digits) && end <= bytes.length && bytes[end - 1] === LINE_END;
    if (!whole || equals < 0 || equals >= end) throw corrupt(`${what} is malformed`);
    const key = bytes.subarray(space + 1, equals).toString('latin1');
    const value = bytes.subarray(equals + 1, end - 1);
    if (key.startsWith('GNU.sparse.')) throw sparse(what);
    if (key === 'path') extra.name = Buffer.from(value);
    if (key === 'size') extra.size = decimal(value.toString('latin1'), what);
    at = end;
  }
  return extra;
}

const LINE_END = 10;

function decimal(digits: string, what: string): number {
  const value = Number(digits);
  if (!/^\d{1,16}$/.test(digits) || !Number.isSafeInteger(value)) throw corrupt(`${what} has an impossible size`);
  return value;
}

function sparse(what: string): ImgfsError {
  return new ImgfsError('unsupported', `${what} is of a sparse member`, { hint: 'make the archive without --sparse' });
}

function memberOf(
  storage: Storage,
  header: TarHeader,
  extra: Extra,
  place: Pick<TarMember, 'at' | 'size'>,
): TarMember | PassedOver {
  const bytes = extra.name ?? header.name;
  if (header.type === TYPES.sparse) throw sparse(`${storage.name}: the header of "${shown(bytes)}"`);
  if (header.type !== TYPES.file && header.type !== TYPES.contiguous) {
    return { name: shown(bytes), why: KINDS[header.type] ?? 'of an unknown kind' };
  }
  const name = utf8(bytes)?.replace(/^(?:\.\/)+/, '');
  if (name === undefined || !isMemberName(name)) return { name: shown(bytes), why: 'not a plain file name' };
  return { name, ...place };
}

/** Whether a name can be a member's, and nothing else: it is also what descriptors and manifests may name. */
export function isMemberName(name: string): boolean {
  if (name === '' || name === '.' || name === '..' || Buffer.byteLength(name) > LONGEST_NAME) return false;
  return !/[/\\\u0000-\u001f\u007f]/.test(name);
}

/** For people. */
function shown(bytes: Buffer): string {
  return bytes.toString('utf8').slice(0, LONGEST_NAME);
}

function utf8(bytes: Buffer): string | undefined {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return undefined;
  }
}
