/**
 * The table of open host files. Every file is opened once, by the main thread, however many images use it: a second
 * open of the same file in our own process would conflict with our own lock.
 */
import fs from 'node:fs';
import { dirname } from 'node:path';
import { hostError, ImgfsError, systemCode } from '../lib/errors.js';
import { fileStorage } from '../storage/direct.js';
import { fileLength, type OpenFile } from '../storage/file.js';
import type { Storage } from '../storage/storage.js';
import { PROTOCOL } from './combined-name.js';
import { lockForReading, lockForWriting, type Sharing } from './lock.js';

/** An open host file: the descriptor every thread uses, and what its views inherit. */
export interface HostFile extends OpenFile {
  /** The path with links resolved. */
  readonly path: string;
  /** Where names in this file are looked up: the directory it was named in, then the one it really is in. */
  readonly directories: readonly string[];
  readonly device: boolean;
  /** Unique among all files of the host while it is open. */
  readonly identity: string;
  readonly uid: number;
  readonly gid: number;
  readonly mode: number;
  readonly mtimeSeconds: number;
  readonly mtimeNanoseconds: number;
}

/** How a file is opened. */
export interface FileAccess {
  /** For writing, under a writer's locks. */
  readonly writable: boolean;
  /** Past the host's page cache. */
  readonly direct: boolean;
  /** Flushes do nothing. */
  readonly unsafe: boolean;
}

export const READ_ONLY: FileAccess = { writable: false, direct: false, unsafe: false };

interface Entry {
  readonly file: HostFile;
  uses: number;
}

/** Owns the descriptors: each is closed, and its locks end, when the last storage made from it closes. */
export class HostFiles {
  private readonly entries = new Map<string, Entry>();

  constructor(
    private readonly sharing: Sharing,
    private readonly warn: (message: string) => void,
  ) {}

  /** Opens a file the user named. Throws `missing`, `permission`, `locked`, or `refused` for what is no disk. */
  open(name: string, access: FileAccess = READ_ONLY): HostFile {
    let fd: number;
    try {
      fd = fs.openSync(name, flagsFor(name, access));
    } catch (error) {
      if (access.direct && systemCode(error) === 'EINVAL') throw noDirectIo(name);
      if (systemCode(error) === 'ENOENT' && PROTOCOL.test(name)) throw notAFile(name);
      throw hostError(`cannot open ${name}${access.writable ? ' for writing' : ''}`, error);
    }
    return this.adopt(fd, name, access, () => fs.realpathSync(dirname(name)));
  }

  /**
   * Takes ownership of a descriptor the gate opened. `called` is its name as those above it give it, which is what the
   * file is called where it leads there, as for qemu-img; otherwise its resolved path is.
   */
  openedByGate(fd: number, called: string, access: FileAccess = READ_ONLY): HostFile {
    const path = fs.readlinkSync(`/proc/self/fd/${fd}`);
    return this.adopt(fd, leadsTo(called, path) ? called : path, access, dirname);
  }

  /** Takes ownership of a descriptor of a file that imgfs made, which has no name that anybody should use. */
  made(fd: number, name: string, access: FileAccess): HostFile {
    return this.adopt(fd, name, access, dirname);
  }

  /**
   * Closes the descriptor again when the file is known already or cannot be used. The lock comes before anything is
   * believed, the size included: until then somebody may still be writing.
   */
  private adopt(fd: number, name: string, access: FileAccess, namedIn: (path: string) => string): HostFile {
    try {
      const path = fs.readlinkSync(`/proc/self/fd/${fd}`);
      const identity = identify(fs.fstatSync(fd, { bigint: true }), name);
      const known = this.entries.get(identity);
      if (known !== undefined) {
        // One file cannot be both: what it is used for first decides.
        if (access.writable) throw new ImgfsError('busy', `${name} is used twice`);
        fs.closeSync(fd);
        known.uses++;
        return known.file;
      }
      if (access.writable) {
        assertNotVmwares(name, path);
        lockForWriting({ fd, path, name });
      } else lockForReading({ fd, path, name, sharing: this.sharing, warn: this.warn });
      const file = describe({ fd, name, path, identity, namedIn: namedIn(path), access });
      this.entries.set(identity, { file, uses: 1 });
      return file;
    } catch (error) {
      fs.closeSync(fd);
      throw error;
    }
  }

  /** One more use of an open file: for another storage over it. */
  again(file: HostFile): HostFile {
    const entry = this.entries.get(file.identity);
    if (entry === undefined) throw new Error(`${file.name} is not open`);
    entry.uses++;
    return file;
  }

  /** A storage over an open file; closing it gives up one use of the file. */
  storage(file: HostFile): Storage {
    return fileStorage(file, () => this.release(file));
  }

  private release(file: HostFile): void {
    const entry = this.entries.get(file.identity);
    if (entry === undefined) throw new Error(`${file.name} was released twice`);
    entry.uses--;
    if (entry.uses > 0) return;
    this.entries.delete(file.identity);
    fs.closeSync(file.fd);
  }
}

/** VMware marks a disk in use by a directory beside it, and knows no other locks. */
function assertNotVmwares(name: string, path: string): void {
  for (const directory of new Set([`${name}.lck`, `${path}.lck`])) {
    if (!fs.existsSync(directory) || !fs.statSync(directory).isDirectory()) continue;
    throw new ImgfsError('locked', `${name} is in use by VMware: there is ${directory}`, {
      hint: 'if no virtual machine uses it, remove that directory',
    });
  }
}

/** Without NONBLOCK the open of a FIFO would wait for a writer for ever; a device's only writer has it by EXCL. */
function flagsFor(name: string, { writable, direct }: FileAccess): number {
  const { O_RDWR, O_RDONLY, O_NONBLOCK, O_DIRECT, O_EXCL } = fs.constants;
  const device = writable && fs.statSync(name).isBlockDevice();
  return (writable ? O_RDWR : O_RDONLY) + O_NONBLOCK + (direct ? O_DIRECT : 0) + (device ? O_EXCL : 0);
}

/** What qemu-img takes for the name of another kind of place. */
function notAFile(name: string): ImgfsError {
  const kind = name.slice(0, name.indexOf(':') + 1);
  return new ImgfsError('unsupported', `cannot open ${name}: no such file, and ${kind} is no place imgfs knows`, {
    hint: 'name a file or a block device',
  });
}

function noDirectIo(name: string): ImgfsError {
  return new ImgfsError('unsupported', `${name} cannot be used past the host's page cache (O_DIRECT)`, {
    hint: 'its file system has no direct I/O: leave out --cache none and directsync',
  });
}

/** The identity of the file of that name. Throws what the host answers, and `refused` for what is no disk. */
export function identityOf(path: string): string {
  return identify(fs.statSync(path, { bigint: true }), path);
}

/** The same for every name of one file, and for every node of one device. Throws `refused` for what is no disk. */
function identify(status: fs.BigIntStats, name: string): string {
  if (status.isBlockDevice()) return `device ${status.rdev}`;
  if (status.isFile()) return `${status.dev}:${status.ino}`;
  const kind = status.isDirectory() ? 'a directory' : 'neither a regular file nor a block device';
  throw new ImgfsError('refused', `${name} is ${kind}`);
}

interface Described extends Pick<HostFile, 'fd' | 'name' | 'path' | 'identity'> {
  readonly namedIn: string;
  readonly access: FileAccess;
}

/** Whether a name is one of the file with that path. */
function leadsTo(name: string, path: string): boolean {
  try {
    return fs.realpathSync(name) === path;
  } catch {
    return false;
  }
}

function describe({ fd, name, path, identity, namedIn, access }: Described): HostFile {
  const status = fs.fstatSync(fd, { bigint: true });
  const real = dirname(path);
  return {
    fd,
    name,
    size: fileLength(fd, name),
    writable: access.writable,
    direct: access.direct,
    unsafe: access.unsafe,
    path,
    directories: namedIn === real ? [real] : [namedIn, real],
    device: status.isBlockDevice(),
    identity,
    uid: Number(status.uid),
    gid: Number(status.gid),
    mode: Number(status.mode % 0o1000n),
    mtimeSeconds: Number(status.mtimeNs / 1_000_000_000n),
    mtimeNanoseconds: Number(status.mtimeNs % 1_000_000_000n),
  };
}
