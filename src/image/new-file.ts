import fs from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { hostError, ImgfsError, systemCode } from '../lib/errors.js';
import { libc, OPEN } from '../lib/libc.js';
import { randomBytes } from '../lib/random.js';
import { FileStorage, type OpenFile } from '../storage/file.js';
import type { Storage } from '../storage/storage.js';
import type { HostFile } from './files.js';
import { FilledFile } from './filled-file.js';

/** What the host answers where its file system has no files without a name. */
const NO_UNNAMED = new Set(['EOPNOTSUPP', 'EISDIR', 'ENOENT', 'EINVAL', 'ENOSYS']);

/**
 * A file that gets its name when it is complete. Until then it has none, so that nothing is left of it whatever
 * happens; where the file system has no such files it has a hidden one, which only a killed program leaves behind.
 */
export class UnnamedFile {
  private readonly fd: number;
  /** The hidden name, where it has one. */
  private hidden: string | undefined;
  private open = true;
  private filling: FilledFile | undefined;

  /**
   * `path` is resolved. It gets the owner and mode of `old`, the file it will replace, else what the umask leaves.
   * Throws what the host answers, `permission` where it may not have that owner.
   */
  constructor(
    readonly path: string,
    private readonly name: string,
    private readonly old: HostFile | undefined,
  ) {
    try {
      this.fd = this.unnamed() ?? this.named();
    } catch (error) {
      throw hostError(`cannot make ${name}`, error);
    }
    if (old !== undefined) this.takeAfter(old);
  }

  /** All of the file, for writing; `told` of every write. Closing it changes nothing. */
  storage(told: (bytes: number) => void): Storage {
    return new ToldFile({ fd: this.fd, name: this.name, size: 0, writable: true }, told);
  }

  /** All of the file, for writing much: nothing is durable before `flush`. */
  filled(): Storage {
    this.filling ??= new FilledFile(this.fd, this.name);
    return this.filling;
  }

  /** Returns when all that was written, by any storage, is durable. */
  flush(): void {
    try {
      fs.fsyncSync(this.fd);
    } catch (error) {
      throw hostError(`cannot flush ${this.name}`, error);
    }
  }

  /** What is durable of it is read from the medium when it is read next, as far as the host can be told so. */
  forget(): void {
    libc()?.forgetCached(this.fd);
  }

  /** Puts it in the place of `old`; without one the name must still be free. Throws `exists` where it is not. */
  appear(): void {
    const taken = this.old === undefined && fs.lstatSync(this.path, { throwIfNoEntry: false }) !== undefined;
    if (taken) throw new ImgfsError('exists', `${this.name} has appeared meanwhile`);
    try {
      if (this.hidden === undefined && this.old === undefined) {
        this.link(this.path);
        return;
      }
      if (this.hidden === undefined) {
        const hidden = this.hiddenName();
        this.link(hidden);
        this.hidden = hidden;
      }
      fs.renameSync(this.hidden, this.path);
      this.hidden = undefined;
    } catch (error) {
      throw hostError(`cannot make ${this.name}`, error);
    }
  }

  /** There is no file without a name where there are no such calls. */
  private link(path: string): void {
    libc()?.link(this.fd, path);
  }

  close(): void {
    if (!this.open) return;
    this.open = false;
    this.filling?.close();
    fs.closeSync(this.fd);
    if (this.hidden !== undefined) fs.rmSync(this.hidden, { force: true });
  }

  private unnamed(): number | undefined {
    const { O_RDWR, O_DIRECTORY } = fs.constants;
    if (libc() === undefined) return undefined;
    try {
      return fs.openSync(dirname(this.path), O_RDWR + O_DIRECTORY + OPEN.TMPFILE, 0o666);
    } catch (error) {
      if (NO_UNNAMED.has(systemCode(error) ?? '')) return undefined;
      throw error;
    }
  }

  private named(): number {
    this.hidden = this.hiddenName();
    return fs.openSync(this.hidden, 'wx+', 0o666);
  }

  private hiddenName(): string {
    return join(dirname(this.path), `.${basename(this.path)}.${randomBytes(4).toString('hex')}`);
  }

  private takeAfter(old: HostFile): void {
    const { uid, gid, mode } = old;
    try {
      const own = fs.fstatSync(this.fd);
      if (own.uid !== uid || own.gid !== gid) fs.fchownSync(this.fd, uid, gid);
      fs.fchmodSync(this.fd, mode);
      copyExtended(old.fd, this.fd);
    } catch (error) {
      this.close();
      throw hostError(`cannot give the new ${this.name} the owner of the old one`, error);
    }
  }
}

const ACCESS_LIST = 'system.posix_acl_access';

/**
 * Gives a file the extended attributes of another, its access control list among them. Without that list others could
 * do more or less with the file than before, so it must succeed; the rest is kept where the host allows it.
 */
function copyExtended(from: number, to: number): void {
  const calls = libc();
  if (calls === undefined) return;
  const names = calls.extendedNames(from);
  // A directory may give new files a list.
  if (!names.includes(ACCESS_LIST)) calls.removeExtended(to, ACCESS_LIST);
  for (const name of names) {
    const value = calls.getExtended(from, name);
    try {
      if (value !== undefined) calls.giveExtended(to, name, value);
    } catch (error) {
      if (name === ACCESS_LIST || systemCode(error) === undefined) throw error;
    }
  }
}

/** A file that tells how much is written to it. */
class ToldFile extends FileStorage {
  constructor(
    file: OpenFile,
    private readonly told: (bytes: number) => void,
  ) {
    super(file);
  }

  override write(from: Uint8Array, at: number): void {
    super.write(from, at);
    this.told(from.length);
  }
}

/** A block device as an empty storage: what it grows by is made zeros first, up to the end of the device. */
export class BlankDevice extends ToldFile {
  private readonly capacity: number;
  private length = 0;

  constructor(device: HostFile, told: (bytes: number) => void) {
    super(device, told);
    this.capacity = device.size;
  }

  override size(): number {
    return this.length;
  }

  override read(into: Uint8Array, at: number): number {
    return super.read(into.subarray(0, Math.max(0, Math.min(into.length, this.length - at))), at);
  }

  override write(from: Uint8Array, at: number): void {
    if (at + from.length > this.length) this.resize(at + from.length);
    super.write(from, at);
  }

  override resize(size: number): void {
    if (size > this.capacity) {
      throw new ImgfsError('no-space', `${this.name} has ${this.capacity} bytes, ${size} are needed`);
    }
    const { length } = this;
    this.length = size;
    if (size > length) this.discard(length, size - length);
  }
}
