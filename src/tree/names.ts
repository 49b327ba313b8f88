/**
 * Names from images are hostile: any bytes, any length, any number of times. Each gets exactly one file name that is
 * valid everywhere and tells the original back.
 */

/** The longest file name Linux takes, in bytes. */
const NAME_MAX = 255;

/** The extended attribute that, set to a snapshot's id or name on `disk.raw`, makes the disk what it was then. */
export const APPLY = 'user.imgfs.apply';

/** Room for a suffix that sets an over-long or repeated name apart. */
const SUFFIX_ROOM = 12;

/** Stands for the empty name: a bare `%` never results from escaping, which writes `%25`. */
const EMPTY = '%';

/**
 * The bytes as a file name without extension: UTF-8 text stays as it is, everything else is percent-encoded: `%`,
 * `/`, control characters, invalid UTF-8, and the dots of `.` and `..`. One-to-one; not limited in length.
 */
export function escapeName(bytes: Uint8Array): string {
  if (bytes.length === 0) return EMPTY;
  const text = decodeUtf8(bytes);
  if (text === undefined) return Array.from(bytes, (byte) => (byte < 128 ? escapeText(chr(byte)) : hex(byte))).join('');
  if (text === '.' || text === '..') return text.replaceAll('.', '%2E');
  return escapeText(text);
}

/** The bytes that `escapeName` writes so; undefined for text it never writes. */
export function unescapeName(text: string): Uint8Array | undefined {
  const parts = text === EMPTY ? [] : (text.match(/%[0-9A-F]{2}|[^%]+/g) ?? []);
  const bytes = Buffer.concat(
    parts.map((part) => (part.startsWith('%') ? Buffer.from(part.slice(1), 'hex') : Buffer.from(part))),
  );
  return escapeName(bytes) === text ? bytes : undefined;
}

/**
 * File names for a list of names, in order, all different and none longer than Linux takes once `extension` is added.
 * The first holder of a name has it plain; later ones get `~2`, `~3` and so on, as do names cut to fit.
 */
export function uniqueNames(escaped: readonly string[], extension: string): readonly string[] {
  const room = NAME_MAX - Buffer.byteLength(extension);
  const fits = (name: string): boolean => Buffer.byteLength(name) <= room;
  const taken = new Set<string>(escaped.filter(fits));
  const plain = new Set<string>();
  return escaped.map((name) => {
    if (fits(name) && !plain.has(name)) {
      plain.add(name);
      return name + extension;
    }
    const base = cut(name, room - SUFFIX_ROOM);
    let n = 2;
    while (taken.has(`${base}~${n}`)) n++;
    taken.add(`${base}~${n}`);
    return `${base}~${n}${extension}`;
  });
}

/** What the files of snapshots with these names are called, in order, without extension. */
export function snapshotStems(names: readonly Uint8Array[]): readonly string[] {
  // One base name for both files of a snapshot: the longer extension decides how much fits.
  return uniqueNames(names.map(escapeName), '.vmstate').map((name) => name.slice(0, -'.vmstate'.length));
}

/** What the directories of several images in one mount are called, in order, by the names of their files. */
export function imageDirectories(fileNames: readonly string[]): readonly string[] {
  return uniqueNames(fileNames.map(stemOf), '');
}

/** The name a disk is known by: its file's name without the last extension. */
export function stemOf(fileName: string): string {
  const dot = fileName.lastIndexOf('.');
  return escapeName(Buffer.from(dot > 0 ? fileName.slice(0, dot) : fileName));
}

function decodeUtf8(bytes: Uint8Array): string | undefined {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return undefined;
  }
}

function escapeText(text: string): string {
  return text.replace(/[%/\u0000-\u001f\u007f-\u009f]/g, (found) => Array.from(Buffer.from(found), hex).join(''));
}

function chr(byte: number): string {
  return String.fromCharCode(byte);
}

function hex(byte: number): string {
  return `%${byte.toString(16).toUpperCase().padStart(2, '0')}`;
}

/** At most `bytes` bytes of the name, whole characters and whole escapes only. */
function cut(name: string, bytes: number): string {
  let kept = '';
  let length = 0;
  for (const piece of name.match(/%[0-9A-F]{2}|[\s\S]/gu) ?? []) {
    length += Buffer.byteLength(piece);
    if (length > bytes) break;
    kept += piece;
  }
  return kept;
}
