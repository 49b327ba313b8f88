import fs from 'node:fs';
import { deviceNumbers } from '../lib/bits.js';
import { hostError, ImgfsError } from '../lib/errors.js';
import { libc, SystemCallError } from '../lib/libc.js';
import { type Storage, type StorageExtent, writeZeros } from './storage.js';

/** What is known of an open file: enough to use it in another thread, which must never open the path again. */
export interface OpenFile {
  readonly fd: number;
  /** The path as the user or the naming image gave it, for messages. */
  readonly name: string;
  /** Length when it was opened. For a read-only file it must not shrink below this. */
  readonly size: number;
  readonly writable: boolean;
  /** It was opened with O_DIRECT. */
  readonly direct?: boolean;
  /** Flushes do nothing: speed for those who can do without the image after a crash. */
  readonly unsafe?: boolean;
}

/**
 * A regular file or block device, by descriptor. The descriptor belongs to whoever opened it (one table in the main
 * thread); `release` is called once by `close`. This is the only place that loops over short reads and writes.
 */
export class FileStorage implements Storage {
  readonly name: string;
  readonly writable: boolean;
  protected readonly fd: number;
  private readonly opened: number;
  private readonly unsafe: boolean;
  private failed: unknown;
  private release: (() => void) | undefined;
  private known: string | undefined;
  /** Where data began when a hole was looked at. */
  private dataAt: number | undefined;

  constructor(file: OpenFile, release?: () => void) {
    this.name = file.name;
    this.writable = file.writable;
    this.fd = file.fd;
    this.opened = file.size;
    this.unsafe = file.unsafe === true;
    this.release = release;
  }

  size(): number {
    return this.writable ? fileLength(this.fd, this.name) : this.opened;
  }

  read(into: Uint8Array, at: number): number {
    let done = 0;
    try {
      while (done < into.length) {
        const got = fs.readSync(this.fd, into, done, into.length - done, at + done);
        if (got === 0) break;
        done += got;
      }
    } catch (error) {
      throw hostError(`cannot read ${this.name}`, error);
    }
    return this.checked(done, into, at);
  }

  /** Returns `done`, the bytes read, unless they end where the file did not end before. */
  protected checked(done: number, into: Uint8Array, at: number): number {
    if (done < into.length && !this.writable && at + done < this.opened) throw this.shrunk();
    return done;
  }

  write(from: Uint8Array, at: number): void {
    this.assertHealthy();
    try {
      writeWhole(this.fd, from, at);
    } catch (error) {
      throw hostError(`cannot write ${this.name}`, error);
    }
  }

  /** After one failed fdatasync the kernel may have dropped the pages: success is never claimed again. */
  flush(): void {
    this.assertHealthy();
    if (this.unsafe) return;
    try {
      fs.fdatasyncSync(this.fd);
    } catch (error) {
      this.failed = hostError(`cannot flush ${this.name}`, error);
      throw this.failed;
    }
  }

  resize(size: number): void {
    this.assertHealthy();
    try {
      fs.ftruncateSync(this.fd, size);
    } catch (error) {
      throw hostError(`cannot resize ${this.name}`, error);
    }
  }

  /** Punches a hole; where the file system has none (or not of this size), zeros are written. */
  discard(at: number, length: number): void {
    this.assertHealthy();
    const within = Math.min(length, this.size() - at);
    if (within <= 0) return;
    try {
      if (libc()?.punchHole(this.fd, at, within) === true) return;
    } catch (error) {
      throw hostError(`cannot punch ${this.name}`, error);
    }
    writeZeros(this, at, within);
  }

  /** fallocate(2); where there is none, zeros are written into holes and behind the end. */
  allocate(at: number, length: number): void {
    this.assertHealthy();
    if (length <= 0) return;
    try {
      if (libc()?.allocate(this.fd, at, length) === true) return;
    } catch (error) {
      throw hostError(`cannot set space aside for ${this.name}`, error);
    }
    const size = this.size();
    const end = at + length;
    for (let here = at; here < end; ) {
      const run = here < size ? this.extent(here) : { data: false, length: end - here };
      const step = Math.min(run.length, end - here);
      if (!run.data) writeZeros(this, here, step);
      here += step;
    }
  }

  /** copy_file_range(2), which shares the blocks where the file system can; FICLONERANGE where nothing else will do. */
  copyFrom(source: Storage, from: number, at: number, length: number, share?: 'share'): boolean {
    this.assertHealthy();
    const calls = libc();
    if (calls === undefined || !(source instanceof FileStorage)) return false;
    try {
      if (share !== undefined) return calls.shareRange(source.fd, from, this.fd, at, length);
      for (let done = 0; done < length; ) {
        const copied = calls.copyRange(source.fd, from + done, this.fd, at + done, length - done);
        if (copied === undefined || copied === 0) return false;
        done += copied;
      }
      return true;
    } catch (error) {
      throw hostError(`cannot copy ${source.name} to ${this.name}`, error);
    }
  }

  sameAs(other: Storage): boolean {
    return other instanceof FileStorage && this.identity === other.identity;
  }

  /** As long as it is open no other file has it. */
  private get identity(): string {
    this.known ??= identityOf(this.fd);
    return this.known;
  }

  /**
   * SEEK_DATA / SEEK_HOLE; a host without them (or without the FFI) answers that all is data. What follows a hole is
   * mostly asked for next, and known to be data: then one call tells the rest.
   */
  extent(at: number): StorageExtent {
    const end = this.size();
    const calls = libc();
    if (calls === undefined) return { data: true, length: end - at };
    try {
      const hole = at === this.dataAt ? calls.seekHole(this.fd, at) : at;
      if (hole > at) return { data: true, length: Math.min(hole, end) - at };
      const data = calls.seekData(this.fd, at);
      this.dataAt = data;
      // Past the end of a file that shrank there is no hole, but data that is gone.
      if (data === undefined && fileLength(this.fd, this.name) < end) throw this.shrunk();
      if (data === undefined) return { data: false, length: end - at };
      if (data > at) return { data: false, length: Math.min(data, end) - at };
      return { data: true, length: Math.min(calls.seekHole(this.fd, at), end) - at };
    } catch (error) {
      if (error instanceof SystemCallError) return { data: true, length: end - at };
      throw error;
    }
  }

  allocated(): number {
    const status = fs.fstatSync(this.fd);
    return status.isBlockDevice() ? this.size() : status.blocks * 512;
  }

  close(): void {
    this.release?.();
    this.release = undefined;
  }

  private shrunk(): ImgfsError {
    return new ImgfsError('io', `${this.name}: the file became shorter while it was in use`);
  }

  protected assertHealthy(): void {
    if (this.failed !== undefined) throw this.failed;
    if (!this.writable) throw new ImgfsError('read-only', `${this.name} is open read-only`);
  }
}

/** Writes all of `from` at `at` of an open file. Throws what the host answers. */
export function writeWhole(fd: number, from: Uint8Array, at: number): void {
  for (let done = 0; done < from.length; ) {
    done += fs.writeSync(fd, from, done, from.length - done, at + done);
  }
}

/** Length of an open file; a block device is asked itself, its inode says 0. */
export function fileLength(fd: number, name: string): number {
  const status = fs.fstatSync(fd, { bigint: true });
  if (!status.isBlockDevice()) return Number(status.size);
  const calls = libc();
  if (calls !== undefined) return calls.seekEnd(fd);
  const { major, minor } = deviceNumbers(status.rdev);
  try {
    return Number(fs.readFileSync(`/sys/dev/block/${major}:${minor}/size`, 'ascii')) * 512;
  } catch (error) {
    throw hostError(`cannot tell the size of ${name}`, error);
  }
}

function identityOf(fd: number): string {
  const { dev, ino } = fs.fstatSync(fd, { bigint: true });
  return `${dev}:${ino}`;
}
