/**
 * Where passphrases come from: files, standard input, a terminal. Bytes all the way: a passphrase is never a string,
 * which could not be wiped, and never part of a command line, which everybody can read.
 */
import fs from 'node:fs';
import { basename, extname } from 'node:path';
import type { Passphrases } from '../image/keys.js';
import { hostError, ImgfsError } from '../lib/errors.js';
import { promptPassphrase } from './prompt.js';

/** Longer than any passphrase, and than any key file of sense. */
const MAX_BYTES = 64 * 1024;
const NEWLINE = 10;
const RETURN = 13;
const STDIN = 0;

interface Source {
  /** The image it is for, by name, or name without extension, or path; undefined for all. */
  readonly image: string | undefined;
  readonly file: string;
}

/**
 * The passphrases a user gave by `--password-file`, read when they are asked for; the terminal where none was given and
 * there is one. `wipe` ends it.
 */
export class GivenPassphrases implements Passphrases {
  private readonly sources: readonly Source[];
  /** By file, or by image where it was typed. */
  private readonly read = new Map<string, Buffer>();

  constructor(given: readonly string[]) {
    this.sources = given.map(sourceOf);
  }

  of(path: string): Uint8Array {
    const source = this.sourceFor(path);
    const name = source === undefined ? `typed for ${path}` : source.file;
    const known = this.read.get(name);
    if (known !== undefined) return known;
    const bytes = source === undefined ? this.typed(path) : readPassphrase(source.file);
    this.read.set(name, bytes);
    return bytes;
  }

  wipe(): void {
    for (const bytes of this.read.values()) bytes.fill(0);
    this.read.clear();
  }

  private sourceFor(path: string): Source | undefined {
    const names = namesOf(path);
    return (
      this.sources.find(({ image }) => image !== undefined && names.includes(image)) ??
      this.sources.find(({ image }) => image === undefined)
    );
  }

  private typed(path: string): Buffer {
    const bytes = promptPassphrase(`Passphrase of ${path}: `);
    if (bytes !== undefined) return bytes;
    throw new ImgfsError('passphrase', `${path}: encrypted, and no passphrase was given`, {
      hint: 'add --password-file FILE',
    });
  }
}

/** Of what the user gave, the files for a new image of that path: those that name it, else those for any image. */
export function filesFor(given: readonly string[], path: string): readonly string[] {
  const sources = given.map(sourceOf);
  const own = sources.filter(({ image }) => image !== undefined && namesOf(path).includes(image));
  return (own.length > 0 ? own : sources.filter(({ image }) => image === undefined)).map(({ file }) => file);
}

function namesOf(path: string): readonly string[] {
  const file = basename(path);
  return [path, file, basename(file, extname(file))];
}

/** A name with a slash is a file's: `./a=b`. */
function sourceOf(given: string): Source {
  const [, image, file] = /^([^/=]+)=(.+)$/s.exec(given) ?? [];
  return image === undefined || file === undefined ? { image: undefined, file: given } : { image, file };
}

/**
 * A file's bytes, or standard input's, without the newline that editors and `echo` put at the end. The caller wipes
 * them. Throws what the host says, `limit`, and `passphrase` for an empty one.
 */
export function readPassphrase(file: string): Buffer {
  const bytes = readBytes(file);
  let end = bytes.length;
  if (bytes[end - 1] === NEWLINE) end -= bytes[end - 2] === RETURN ? 2 : 1;
  return notEmpty(bytes, end, file);
}

/** As they are, to the last byte: what QEMU makes of a file. */
export function readSecret(file: string): Buffer {
  const bytes = readBytes(file);
  return notEmpty(bytes, bytes.length, file);
}

function notEmpty(bytes: Buffer, end: number, file: string): Buffer {
  if (end === 0) throw new ImgfsError('passphrase', `the passphrase in ${nameOf(file)} is empty`);
  return bytes.subarray(0, end);
}

function readBytes(file: string): Buffer {
  const bytes = Buffer.alloc(MAX_BYTES + 1);
  try {
    const fd = file === '-' ? STDIN : fs.openSync(file, 'r');
    try {
      let length = 0;
      for (let got = -1; got !== 0 && length < bytes.length; length += got)
        got = fs.readSync(fd, bytes, length, bytes.length - length, null);
      if (length <= MAX_BYTES) return bytes.subarray(0, length);
    } finally {
      if (fd !== STDIN) fs.closeSync(fd);
    }
  } catch (error) {
    throw hostError(`cannot read the passphrase in ${nameOf(file)}`, error);
  }
  bytes.fill(0);
  throw new ImgfsError('limit', `${nameOf(file)} is too long for a passphrase`, {
    hint: `the limit is ${MAX_BYTES} bytes`,
  });
}

function nameOf(file: string): string {
  return file === '-' ? 'standard input' : file;
}
