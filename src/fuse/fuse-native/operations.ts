/**
 * The handlers fuse-native takes, as its C and JavaScript halves really call them. Every `done` must be called exactly
 * once, with 0 or a negated errno; an exception in a handler would leave the caller of the file system waiting.
 */

/** stat(2) as the package encodes it: ino, blksize and the ids are 32-bit, size and blocks exact, times in ms >= 0. */
export interface Stat {
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly size: number;
  readonly nlink: number;
  readonly ino: number;
  readonly blksize: number;
  /** Of 512 bytes. */
  readonly blocks: number;
  readonly atime: number;
  readonly mtime: number;
  readonly ctime: number;
}

/** statvfs(3) as the package encodes it: every field is 32-bit. */
export interface StatVfs {
  readonly bsize: number;
  readonly frsize: number;
  readonly blocks: number;
  readonly bfree: number;
  readonly bavail: number;
  readonly files: number;
  readonly ffree: number;
  readonly favail: number;
  readonly namemax: number;
}

/** Ends a request that answers no more than whether it went well. */
export type Done = (result: number) => void;
/** Ends a request that answers with a value. */
export type DoneWith<T> = (result: number, value?: T) => void;

/**
 * The handlers we have. What is left out is answered better by libfuse or the kernel: `access` never comes with
 * default_permissions, `fgetattr` falls back to `getattr`, and extended attributes can be set only: to get, list or
 * remove one is ENOSYS, after which the kernel asks no more and says EOPNOTSUPP.
 */
export interface Operations {
  getattr(path: string, done: DoneWith<Stat>): void;
  readdir(path: string, done: (result: number, names?: readonly string[], stats?: readonly Stat[]) => void): void;
  open(path: string, flags: number, done: DoneWith<number>): void;
  /** `done` gets the number of bytes. `into` is memory of libfuse: it is gone once `done` was called. */
  read(path: string, handle: number, into: Buffer, length: number, at: number, done: Done): void;
  write(path: string, handle: number, from: Buffer, length: number, at: number, done: Done): void;
  flush(path: string, handle: number, done: Done): void;
  fsync(path: string, dataOnly: number, handle: number, done: Done): void;
  release(path: string, handle: number, done: Done): void;
  statfs(path: string, done: DoneWith<StatVfs>): void;
  create(path: string, mode: number, done: DoneWith<number>): void;
  truncate(path: string, size: number, done: Done): void;
  ftruncate(path: string, handle: number, size: number, done: Done): void;
  chmod(path: string, mode: number, done: Done): void;
  chown(path: string, uid: number, gid: number, done: Done): void;
  utimens(path: string, atime: number, mtime: number, done: Done): void;
  mknod(path: string, mode: number, device: number, done: Done): void;
  mkdir(path: string, mode: number, done: Done): void;
  rmdir(path: string, done: Done): void;
  unlink(path: string, done: Done): void;
  rename(from: string, to: string, done: Done): void;
  link(from: string, to: string, done: Done): void;
  symlink(target: string, path: string, done: Done): void;
  /** `value` is memory of libfuse, as in `read`. */
  setxattr(path: string, name: string, value: Buffer, position: number, flags: number, done: Done): void;
}
