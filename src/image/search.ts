/**
 * Finding a file that an image knows only by what it says of itself: among the files beside the image, through the gate.
 */
import fs from 'node:fs';
import { resolve } from 'node:path';
import { hostError, ImgfsError, systemCode } from '../lib/errors.js';
import { type FileAccess, type HostFile, READ_ONLY } from './files.js';
import type { Identity, Reference } from './format.js';
import { described, type GatePolicy, openReference, realDirectory, refusal } from './gate.js';

/** Files whose beginnings are read in search of one. */
const MAX_CANDIDATES = 1024;

/**
 * Opens the file that is meant and returns the descriptor, which the caller owns. Looked at are the files of the right
 * kind in the directory of the naming file and in those the user allows, each opened as if it were named; what may not
 * be opened is passed over. Throws `missing`, `refused` where policy says no or several files are it, `limit` where
 * there are too many, and what `matches` throws.
 */
export function findReference(
  reference: Reference,
  identity: Identity,
  from: HostFile,
  policy: GatePolicy,
  access: FileAccess = READ_ONLY,
): number {
  const what = described(reference, from);
  if (!policy.follow) throw refusal(what, 'references are switched off', 'leave out --no-refs');
  const places = [...new Set([...from.directories, ...policy.allowed.flatMap((name) => realDirectory(name) ?? [])])];
  const open = (name: string): number => openReference({ role: reference.role, name }, from, policy, access);
  const found = allOf(candidates(what, places, identity), identity, open);
  const [only] = found;
  if (only === undefined) {
    throw new ImgfsError('missing', `no ${identity.extension} file in ${places.join(' or ')} is the ${what}`, {
      hint: 'if it lies elsewhere, add --allow-refs DIR',
    });
  }
  if (found.length === 1) return only;
  for (const fd of found) fs.closeSync(fd);
  throw refusal(what, `${found.length} files say that they are it`, 'leave only one of them there');
}

/** The files of the right name, in a settled order. */
function candidates(what: string, directories: readonly string[], { extension }: Identity): readonly string[] {
  const paths = directories.flatMap((directory) => {
    try {
      const names = fs.readdirSync(directory).filter((name) => name.toLowerCase().endsWith(extension));
      return names.sort().map((name) => resolve(directory, name));
    } catch (error) {
      // What the user allows may also be a device, or gone.
      if (systemCode(error) === 'ENOENT' || systemCode(error) === 'ENOTDIR') return [];
      throw hostError(`cannot look for ${what} in ${directory}`, error);
    }
  });
  if (paths.length <= MAX_CANDIDATES) return paths;
  throw new ImgfsError(
    'limit',
    `${what} is one of ${paths.length} ${extension} files; ${MAX_CANDIDATES} are looked at`,
  );
}

/** Descriptors of those that are it. Two names of one file are one. */
function allOf(paths: readonly string[], identity: Identity, open: (path: string) => number): readonly number[] {
  const found = new Map<string, number>();
  try {
    for (const path of paths) {
      const fd = openedIf(identity, () => open(path));
      if (fd === undefined) continue;
      const { dev, ino } = fs.fstatSync(fd, { bigint: true });
      const key = `${dev}:${ino}`;
      if (found.has(key)) fs.closeSync(fd);
      else found.set(key, fd);
    }
    return [...found.values()];
  } catch (error) {
    for (const fd of found.values()) fs.closeSync(fd);
    throw error;
  }
}

/** The descriptor, if the file is the one meant. */
function openedIf({ bytes, matches }: Identity, open: () => number): number | undefined {
  let fd: number;
  try {
    fd = open();
  } catch (error) {
    if (error instanceof ImgfsError) return undefined;
    throw error;
  }
  try {
    const head = Buffer.alloc(bytes);
    const got = fs.readSync(fd, head, 0, head.length, 0);
    if (matches(head.subarray(0, got))) return fd;
  } catch (error) {
    fs.closeSync(fd);
    if (systemCode(error) === undefined) throw error;
    return undefined;
  }
  fs.closeSync(fd);
  return undefined;
}
