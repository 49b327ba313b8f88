/**
 * The table of open host files. Every file is opened once, by the main thread, however many images use it: a second
 * open of the same file in our own process would conflict with our own lock.
 */
import fs from 'node:fs';
import { dirname } from 'node:path';
import { hostError, ImgfsError } from '../lib/errors.js';
import { FileStorage, fileLength, type OpenFile } from '../storage/file.js';
import { lockForReading, type Sharing } from './lock.js';

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
  open(name: string): HostFile {
    let fd: number;
    try {
      // Without NONBLOCK the open of a FIFO would wait for a writer for ever.
      fd = fs.openSync(name, fs.constants.O_NONBLOCK);
    } catch (error) {
      throw hostError(`cannot open ${name}`, error);
    }
    return this.adopt(fd, name, () => fs.realpathSync(dirname(name)));
  }

  /** Takes ownership of a descriptor the gate opened; messages call the file by its resolved path. */
  openedByGate(fd: number): HostFile {
    return this.adopt(fd, undefined, dirname);
  }

  /**
   * Closes the descriptor again when the file is known already or cannot be used. The lock comes before anything is
   * believed, the size included: until then somebody may still be writing.
   */
  private adopt(fd: number, given: string | undefined, namedIn: (path: string) => string): HostFile {
    try {
      const path = fs.readlinkSync(`/proc/self/fd/${fd}`);
      const name = given ?? path;
      const identity = identify(fd, name);
      const known = this.entries.get(identity);
      if (known !== undefined) {
        fs.closeSync(fd);
        known.uses++;
        return known.file;
      }
      lockForReading({ fd, path, name, sharing: this.sharing, warn: this.warn });
      const file = describe({ fd, name, path, identity, namedIn: namedIn(path) });
      this.entries.set(identity, { file, uses: 1 });
      return file;
    } catch (error) {
      fs.closeSync(fd);
      throw error;
    }
  }

  /** A storage over an open file; closing it gives up one use of the file. */
  storage(file: HostFile): FileStorage {
    return new FileStorage(file, () => this.release(file));
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

/** The same for every name of one file, and for every node of one device. Throws `refused` for what is no disk. */
function identify(fd: number, name: string): string {
  const status = fs.fstatSync(fd, { bigint: true });
  if (status.isBlockDevice()) return `device ${status.rdev}`;
  if (status.isFile()) return `${status.dev}:${status.ino}`;
  const kind = status.isDirectory() ? 'a directory' : 'neither a regular file nor a block device';
  throw new ImgfsError('refused', `${name} is ${kind}`);
}

interface Described extends Pick<HostFile, 'fd' | 'name' | 'path' | 'identity'> {
  readonly namedIn: string;
}

function describe({ fd, name, path, identity, namedIn }: Described): HostFile {
  const status = fs.fstatSync(fd, { bigint: true });
  const real = dirname(path);
  return {
    fd,
    name,
    size: fileLength(fd, name),
    writable: false,
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
