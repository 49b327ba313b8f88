/**
 * The gate: the only way from an image to another file of the host. What an image names must resolve, links followed,
 * beneath the directory of the file that names it; everything else needs the user's word (`--allow-refs DIR`).
 */
import fs from 'node:fs';
import { isAbsolute, relative, resolve, sep } from 'node:path';
import { hostError, ImgfsError, systemCode } from '../lib/errors.js';
import { type Libc, libc, OPEN, RESOLVE } from '../lib/libc.js';
import { PROTOCOL } from './combined-name.js';
import { type FileAccess, type HostFile, READ_ONLY } from './files.js';
import type { Reference } from './format.js';

export interface GatePolicy {
  /** False refuses every reference. */
  readonly follow: boolean;
  /** Directories (with all beneath them) and block devices the user allows beside the naming file's directory. */
  readonly allowed: readonly string[];
}

/** Whether a name that an image stores can be followed: a path, nothing that QEMU would take for a protocol. */
export function isPlainName(name: string): boolean {
  return name !== '' && !name.includes('\0') && !PROTOCOL.test(name);
}

const ROLES: Readonly<Record<Reference['role'], string>> = {
  backing: 'backing file',
  'data-file': 'data file',
  extent: 'extent',
  parent: 'parent image',
  member: 'file',
};

/**
 * Opens what `reference` names, for reading by default, and returns the descriptor, which the caller owns. Throws `refused` when
 * policy says no, `missing` when it does not exist. Nothing outside the allowed directories is ever opened: the path
 * is resolved first, and the kernel then opens the resolved path beneath the directory, or fails.
 */
export function openReference(
  reference: Reference,
  from: HostFile,
  policy: GatePolicy,
  access: FileAccess = READ_ONLY,
): number {
  const what = described(reference, from);
  const calls = libc();
  if (calls === undefined) throw refusal(what, 'without the FFI (koffi) references cannot be checked');
  if (!policy.follow) throw refusal(what, 'references are switched off', 'leave out --no-refs');
  if (reference.name === '' || reference.name.includes('\0')) throw refusal(what, 'the name is not a path');
  if (PROTOCOL.test(reference.name)) {
    throw refusal(what, 'an image may name only plain files', 'name the layer itself on the command line');
  }
  const path = resolveName(what, reference, from);
  const flags = access.writable ? fs.constants.O_RDWR : fs.constants.O_RDONLY;
  const how = flags + (access.direct ? fs.constants.O_DIRECT : 0);
  const device = openDevice(what, path, policy, how);
  if (device !== undefined) return device;
  const home = [...from.directories, ...policy.allowed.map(realDirectory)].find(
    (directory) => directory !== undefined && beneath(path, directory),
  );
  if (home === undefined) {
    const hint = `if you trust it, add --allow-refs ${resolve(path, '..')}`;
    throw refusal(what, `it lies outside the directory of ${from.name}`, hint);
  }
  return openBeneath(calls, what, { directory: home, path, flags: how });
}

/** The name with every link followed, looked up from each directory of the naming file in turn. */
function resolveName(what: string, reference: Reference, from: HostFile): string {
  let failure: unknown;
  for (const directory of from.directories) {
    try {
      return fs.realpathSync(resolve(directory, reference.name));
    } catch (error) {
      failure = error;
    }
    if (isAbsolute(reference.name)) break;
  }
  if (systemCode(failure) === 'ENOENT') {
    throw new ImgfsError('missing', `${what} does not exist`, {
      hint: `looked in ${from.directories.join(' and ')}`,
    });
  }
  throw hostError(`cannot open ${what}`, failure);
}

/** A block device is allowed only where `--allow-refs` names that device itself. */
function openDevice(what: string, path: string, policy: GatePolicy, flags: number): number | undefined {
  if (!fs.statSync(path).isBlockDevice()) return undefined;
  if (!policy.allowed.some((allowed) => allowed.startsWith(sep) && realDirectory(allowed) === path)) {
    throw refusal(what, `${path} is a block device`, `if you trust it, add --allow-refs ${path}`);
  }
  return fs.openSync(path, flags + fs.constants.O_NONBLOCK);
}

/** O_PATH first: opening a FIFO or a device for real can block or act, so the kind is known before that. */
function openBeneath(
  calls: Libc,
  what: string,
  { directory, path, flags }: { readonly directory: string; readonly path: string; readonly flags: number },
): number {
  const opened: number[] = [];
  try {
    // Both paths are resolved already: a link met now was put there after the check, by somebody else.
    const rules = RESOLVE.BENEATH + RESOLVE.NO_MAGICLINKS + RESOLVE.NO_SYMLINKS;
    const root = calls.open(sep, OPEN.PATH);
    opened.push(root);
    const base = calls.openat2(root, relative(sep, directory) || '.', OPEN.PATH, rules);
    opened.push(base);
    const place = calls.openat2(base, relative(directory, path), OPEN.PATH, rules);
    opened.push(place);
    if (!fs.fstatSync(place).isFile()) throw refusal(what, 'it is not a regular file');
    return fs.openSync(`/proc/self/fd/${place}`, flags);
  } catch (error) {
    if (['EXDEV', 'ELOOP'].includes(systemCode(error) ?? '')) throw refusal(what, 'it changed while it was opened');
    throw hostError(`cannot open ${what}`, error);
  } finally {
    for (const fd of opened) fs.closeSync(fd);
  }
}

/** The directory with every link followed; undefined where there is none. */
export function realDirectory(path: string): string | undefined {
  try {
    return fs.realpathSync(path);
  } catch {
    return undefined;
  }
}

function beneath(path: string, directory: string): boolean {
  return path.startsWith(directory.endsWith(sep) ? directory : directory + sep);
}

/** What messages call a file that another one names. */
export function described(reference: Reference, from: HostFile): string {
  return `${ROLES[reference.role]} "${reference.name}" of ${from.name}`;
}

/** The error of a file that policy does not allow. */
export function refusal(what: string, why: string, hint?: string): ImgfsError {
  return new ImgfsError('refused', `${what} is refused: ${why}`, hint === undefined ? {} : { hint });
}
