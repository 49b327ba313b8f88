/**
 * The one file that talks to libc: the system calls Node does not offer. Everything here is 64-bit Linux; structure
 * layouts and the reason for each call are in native-notes/. Where the FFI cannot be loaded `libc()` is undefined and
 * the callers say what they do without.
 */
import { constants as os } from 'node:os';
import { type Bound, type Ffi, loadFfi, type Native } from './ffi.js';

/** A failed system call; `code` is the errno's name, as in Node's own errors. */
export class SystemCallError extends Error {
  constructor(
    readonly syscall: string,
    readonly errno: number,
  ) {
    super(`${syscall}: ${errnoName(errno)}`);
  }

  get code(): string {
    return errnoName(this.errno);
  }
}

const NAMES = new Map(Object.entries(os.errno).map(([name, value]) => [value, name]));

function errnoName(errno: number): string {
  return NAMES.get(errno) ?? `errno ${errno}`;
}

/** openat2(2) `resolve` flags, from linux/openat2.h. */
export const RESOLVE = { NO_MAGICLINKS: 0x02, NO_SYMLINKS: 0x04, BENEATH: 0x08 } as const;

/** open(2) flags that Node's fs.constants lacks. */
export const OPEN = { PATH: 0o10000000, CLOEXEC: 0o2000000, TMPFILE: 0o20000000 } as const;

/** mount(2) and umount2(2) flags. */
export const MOUNT = { RDONLY: 1, NOSUID: 2, NODEV: 4, NOEXEC: 8 } as const;
export const UMOUNT = { DETACH: 2, NOFOLLOW: 8 } as const;

/** The calls. Each throws SystemCallError, retrying EINTR where that is safe. */
export interface Libc {
  /** open(2). Returns the descriptor, which the caller owns. */
  open(path: string, flags: number): number;
  /** openat2(2): `path` resolved from the directory `directory` under the `resolve` flags. The caller owns the result. */
  openat2(directory: number, path: string, flags: number, resolve: number): number;
  /** linkat(2): gives an open file that has no name one. Throws EEXIST where the name is taken. */
  link(fd: number, path: string): void;
  /** lseek(2) with SEEK_DATA: offset of the next data at or after `at`; undefined when only a hole follows. */
  seekData(fd: number, at: number): number | undefined;
  /** lseek(2) with SEEK_HOLE: offset of the next hole at or after `at` (the end of the file counts as one). */
  seekHole(fd: number, at: number): number;
  /** lseek(2) with SEEK_END: the length of a file or block device. */
  seekEnd(fd: number): number;
  /** poll(2): whether a read from the descriptor would return at once. */
  isReadable(fd: number): boolean;
  /** fallocate(2): space for the range, which also makes the file reach that far. False where the host has no such call. */
  allocate(fd: number, at: number, length: number): boolean;
  /** fallocate(2), PUNCH_HOLE and KEEP_SIZE. False where the file system or device has no holes, or not this small. */
  punchHole(fd: number, at: number, length: number): boolean;
  /**
   * copy_file_range(2): has the host copy bytes from one file to another, or share them where its file system can.
   * Returns how many; 0 where the first file ends; undefined where the host does not do that for these two.
   */
  copyRange(from: number, fromAt: number, to: number, toAt: number, length: number): number | undefined;
  /**
   * sync_file_range(2) of the whole file: has the host begin to write out what is not on the medium yet, in a thread of
   * its own. `done` is called afterwards, whatever came of it: it is no promise of durability.
   */
  startWriteback(fd: number, done: () => void): void;
  /**
   * ioctl FICLONERANGE: two files share the blocks of a range, which begins and ends at block boundaries in both. False
   * where the host does not do that for these two.
   */
  shareRange(from: number, fromAt: number, to: number, toAt: number, length: number): boolean;
  /** Takes (or drops) a shared open-file-description lock on one byte. False when another holder forbids it. */
  lockShared(fd: number, byte: number): boolean;
  unlock(fd: number, byte: number): void;
  /** Whether some other open file description holds any lock on the byte (F_OFD_GETLK). */
  isLockedByOther(fd: number, byte: number): boolean;
  mount(source: string, target: string, type: string, flags: number, data: string): void;
  umount(target: string, flags: number): void;
  /** A connected pair of Unix stream sockets, close-on-exec. The caller owns both. */
  socketPair(): readonly [number, number];
  /** Blocks for one message and returns the descriptor it carries; undefined when the peer closed without one. */
  receiveDescriptor(socket: number): number | undefined;
  /** Where the bytes lie in memory. */
  addressOf(bytes: Uint8Array): bigint;
  /** mlock(2): keeps the bytes from being swapped out. False where that is not allowed. */
  lockMemory(bytes: Uint8Array): boolean;
  /** MADV_HUGEPAGE of madvise(2), for bytes that begin on a page. Without effect where the kernel has none to give. */
  adviseHugePages(bytes: Uint8Array): void;
  /**
   * PR_SET_IO_FLUSHER of prctl(2): what the calling thread allocates does not wait for writeback, which may be waiting
   * for this very thread. Threads and processes that it starts inherit that. False where it is not allowed.
   */
  becomeFlusher(): boolean;
  /** Loads a shared library so that later loads find its symbols. Throws Error when it cannot. */
  loadGlobal(path: string): void;
  /** lsetxattr(2): sets an extended attribute of the file itself, even of a symbolic link. */
  setExtended(path: string, name: string, value: Uint8Array): void;
  /** flistxattr(2): the names of a file's extended attributes; none where its file system has no such thing. */
  extendedNames(fd: number): readonly string[];
  /** fgetxattr(2): undefined where the attribute is not there, or not shown to us. */
  getExtended(fd: number, name: string): Uint8Array | undefined;
  /** fsetxattr(2). */
  giveExtended(fd: number, name: string, value: Uint8Array): void;
  /** fremovexattr(2), where it is there. */
  removeExtended(fd: number, name: string): void;
  /** posix_fadvise(2), DONTNEED: what is durable of the file need not be kept in memory. */
  forgetCached(fd: number): void;
  /** Ends the process at once, whatever its threads are blocked in. */
  exitNow(code: number): never;
}

const SYS_OPENAT2 = 437;
const AT = { CWD: -100, SYMLINK_FOLLOW: 0x400 } as const;
const SEEK = { END: 2, DATA: 3, HOLE: 4 } as const;
const SYNC_FILE_RANGE_WRITE = 2;
const FICLONERANGE = 0x4020940d;
const FALLOCATE = { RESERVE: 0, PUNCH: 0x01 + 0x02 } as const;
const FCNTL = { OFD_GETLK: 36, OFD_SETLK: 37 } as const;
const LOCK_TYPE = { READ: 0, WRITE: 1, NONE: 2 } as const;
const POLLIN = 1;
const AF_UNIX = 1;
const SOCK_STREAM_CLOEXEC = 1 + 0o2000000;
const SOL_SOCKET = 1;
const SCM_RIGHTS = 1;
const MSG_CMSG_CLOEXEC = 0x40000000;
/** The kernel's limit of a list of names and of a value. */
const XATTR_MAX = 64 * 1024;
const FADV_DONTNEED = 4;
const MADV_HUGEPAGE = 14;
const PR_SET_IO_FLUSHER = 57;
const { EINTR, EAGAIN, EACCES, ENXIO, EINVAL, ENOSYS, ENODEV, EOPNOTSUPP, EXDEV, EPERM, ETXTBSY, ENODATA, ENOTTY } =
  os.errno;
const NO_ATTRIBUTE: readonly number[] = [ENODATA, EOPNOTSUPP, ENOSYS, EPERM, EACCES];
const CANNOT_FALLOCATE: readonly number[] = [EOPNOTSUPP, ENOSYS, ENODEV, EINVAL];
const CANNOT_COPY: readonly number[] = [EOPNOTSUPP, ENOSYS, EINVAL, EXDEV, EPERM, ETXTBSY];

let loaded: Libc | null | undefined;

/** The calls, or undefined where the FFI cannot be loaded. Loading happens once, at the first use. */
export function libc(): Libc | undefined {
  if (loaded === undefined) {
    try {
      loaded = bind(loadFfi());
    } catch {
      loaded = null;
    }
  }
  return loaded ?? undefined;
}

/** struct flock of 64-bit Linux: type i16 @0, whence i16 @2, start i64 @8, len i64 @16, pid i32 @24 (must be 0). */
function flock(type: number, byte: number): Buffer {
  const lock = Buffer.alloc(32);
  lock.writeInt16LE(type, 0);
  lock.writeBigInt64LE(BigInt(byte), 8);
  lock.writeBigInt64LE(1n, 16);
  return lock;
}

/** An off_t that a call reads, and moves on, by its address. */
function offset64(at: number): Buffer {
  const offset = Buffer.alloc(8);
  offset.writeBigInt64LE(BigInt(at));
  return offset;
}

function bind(koffi: Ffi): Libc {
  const library = koffi.load(null);
  const native = (signature: string): Native => {
    let bound: Native | undefined;
    return (...values) => {
      bound ??= library.func(signature);
      return Number(bound(...values));
    };
  };
  const calls = {
    open: native('int open(const char *path, int flags, int mode)'),
    syscall: native('long syscall(long number, long a, const char *b, void *c, long d)'),
    linkat: native('int linkat(int from, const char *path, int to, const char *name, int flags)'),
    lseek: native('int64 lseek(int fd, int64 offset, int whence)'),
    poll: native('int poll(void *descriptors, unsigned long count, int timeout)'),
    fallocate: native('int fallocate(int fd, int mode, int64 offset, int64 length)'),
    copyFileRange: native(
      'long copy_file_range(int from, void *fromAt, int to, void *toAt, size_t length, unsigned int flags)',
    ),
    fcntl: native('int fcntl(int fd, int command, void *lock)'),
    mount: native(
      'int mount(const char *source, const char *target, const char *type, unsigned long flags, const char *data)',
    ),
    umount2: native('int umount2(const char *target, int flags)'),
    socketpair: native('int socketpair(int domain, int type, int protocol, void *pair)'),
    recvmsg: native('long recvmsg(int fd, void *message, int flags)'),
    mlock: native('int mlock(const void *address, size_t length)'),
    madvise: native('int madvise(void *address, size_t length, int advice)'),
    prctl: native('int prctl(int option, unsigned long a, unsigned long b, unsigned long c, unsigned long d)'),
    lsetxattr: native('int lsetxattr(const char *path, const char *name, const void *value, size_t size, int flags)'),
    flistxattr: native('long flistxattr(int fd, void *names, size_t size)'),
    fgetxattr: native('long fgetxattr(int fd, const char *name, void *value, size_t size)'),
    fsetxattr: native('int fsetxattr(int fd, const char *name, const void *value, size_t size, int flags)'),
    fremovexattr: native('int fremovexattr(int fd, const char *name)'),
    posixFadvise: native('int posix_fadvise(int fd, int64 offset, int64 length, int advice)'),
    ioctl: native('int ioctl(int fd, unsigned long request, void *argument)'),
    exit: native('void _exit(int code)'),
  };

  let syncFileRange: Bound | undefined;
  const polled = Buffer.alloc(8);
  polled.writeInt16LE(POLLIN, 4);

  const check = (name: string, call: () => number): number => {
    for (;;) {
      const result = call();
      if (result >= 0) return result;
      const errno = koffi.errno();
      if (errno !== EINTR) throw new SystemCallError(name, errno);
    }
  };

  const fallocate = (fd: number, mode: number, at: number, length: number): boolean => {
    for (;;) {
      if (calls.fallocate(fd, mode, at, length) === 0) return true;
      const errno = koffi.errno();
      if (CANNOT_FALLOCATE.includes(errno)) return false;
      if (errno !== EINTR) throw new SystemCallError('fallocate', errno);
    }
  };

  return {
    open: (path, flags) => check('open', () => calls.open(path, flags + OPEN.CLOEXEC, 0)),
    openat2(directory, path, flags, resolve) {
      // struct open_how: u64 flags, u64 mode, u64 resolve.
      const how = Buffer.alloc(24);
      how.writeBigUInt64LE(BigInt(flags + OPEN.CLOEXEC), 0);
      how.writeBigUInt64LE(BigInt(resolve), 16);
      return check('openat2', () => calls.syscall(SYS_OPENAT2, directory, path, how, how.length));
    },
    link(fd, path) {
      const { CWD, SYMLINK_FOLLOW } = AT;
      check('linkat', () => calls.linkat(CWD, `/proc/self/fd/${fd}`, CWD, path, SYMLINK_FOLLOW));
    },
    seekData(fd, at) {
      const found = calls.lseek(fd, at, SEEK.DATA);
      if (found >= 0) return found;
      const errno = koffi.errno();
      if (errno === ENXIO) return undefined;
      throw new SystemCallError('lseek', errno);
    },
    seekHole: (fd, at) => check('lseek', () => calls.lseek(fd, at, SEEK.HOLE)),
    isReadable(fd) {
      // struct pollfd: i32 descriptor, i16 events, i16 what happened.
      polled.writeInt32LE(fd, 0);
      return calls.poll(polled, 1, 0) !== 0;
    },
    seekEnd: (fd) => check('lseek', () => calls.lseek(fd, 0, SEEK.END)),
    allocate: (fd, at, length) => fallocate(fd, FALLOCATE.RESERVE, at, length),
    punchHole: (fd, at, length) => fallocate(fd, FALLOCATE.PUNCH, at, length),
    copyRange(from, fromAt, to, toAt, length) {
      for (;;) {
        const copied = calls.copyFileRange(from, offset64(fromAt), to, offset64(toAt), length, 0);
        if (copied >= 0) return copied;
        const errno = koffi.errno();
        if (CANNOT_COPY.includes(errno)) return undefined;
        if (errno !== EINTR) throw new SystemCallError('copy_file_range', errno);
      }
    },
    shareRange(from, fromAt, to, toAt, length) {
      // struct file_clone_range: i64 descriptor, u64 offset, u64 length, u64 offset in the other.
      const range = Buffer.alloc(32);
      for (const [n, value] of [from, fromAt, length, toAt].entries()) range.writeBigInt64LE(BigInt(value), n * 8);
      for (;;) {
        if (calls.ioctl(to, FICLONERANGE, range) === 0) return true;
        const errno = koffi.errno();
        if (CANNOT_COPY.includes(errno) || errno === ENOTTY) return false;
        if (errno !== EINTR) throw new SystemCallError('ioctl', errno);
      }
    },
    startWriteback(fd, done) {
      syncFileRange ??= library.func('int sync_file_range(int fd, int64 offset, int64 length, unsigned int flags)');
      syncFileRange.async(fd, 0, 0, SYNC_FILE_RANGE_WRITE, done);
    },
    lockShared(fd, byte) {
      if (calls.fcntl(fd, FCNTL.OFD_SETLK, flock(LOCK_TYPE.READ, byte)) === 0) return true;
      const errno = koffi.errno();
      if (errno === EAGAIN || errno === EACCES) return false;
      throw new SystemCallError('fcntl', errno);
    },
    unlock(fd, byte) {
      check('fcntl', () => calls.fcntl(fd, FCNTL.OFD_SETLK, flock(LOCK_TYPE.NONE, byte)));
    },
    isLockedByOther(fd, byte) {
      const lock = flock(LOCK_TYPE.WRITE, byte);
      check('fcntl', () => calls.fcntl(fd, FCNTL.OFD_GETLK, lock));
      return lock.readInt16LE(0) !== LOCK_TYPE.NONE;
    },
    mount(source, target, type, flags, data) {
      check('mount', () => calls.mount(source, target, type, flags, data));
    },
    umount(target, flags) {
      check('umount', () => calls.umount2(target, flags));
    },
    socketPair() {
      const pair = Buffer.alloc(8);
      check('socketpair', () => calls.socketpair(AF_UNIX, SOCK_STREAM_CLOEXEC, 0, pair));
      return [pair.readInt32LE(0), pair.readInt32LE(4)];
    },
    receiveDescriptor: (socket) =>
      receiveDescriptor(koffi, (message) => check('recvmsg', () => calls.recvmsg(socket, message, MSG_CMSG_CLOEXEC))),
    addressOf: (bytes) => koffi.address(bytes),
    lockMemory: (bytes) => calls.mlock(bytes, bytes.length) === 0,
    adviseHugePages(bytes) {
      calls.madvise(bytes, bytes.length, MADV_HUGEPAGE);
    },
    becomeFlusher: () => calls.prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0) === 0,
    loadGlobal(path) {
      koffi.load(path, { global: true });
    },
    setExtended(path, name, value) {
      check('lsetxattr', () => calls.lsetxattr(path, name, value, value.length, 0));
    },
    extendedNames(fd) {
      const names = Buffer.alloc(XATTR_MAX);
      const length = calls.flistxattr(fd, names, names.length);
      if (length < 0) {
        const errno = koffi.errno();
        if (errno === EOPNOTSUPP || errno === ENOSYS) return [];
        throw new SystemCallError('flistxattr', errno);
      }
      return names.toString('latin1', 0, length).split('\0').slice(0, -1);
    },
    getExtended(fd, name) {
      const value = Buffer.alloc(XATTR_MAX);
      const length = calls.fgetxattr(fd, name, value, value.length);
      if (length >= 0) return value.subarray(0, length);
      const errno = koffi.errno();
      if (NO_ATTRIBUTE.includes(errno)) return undefined;
      throw new SystemCallError('fgetxattr', errno);
    },
    giveExtended(fd, name, value) {
      check('fsetxattr', () => calls.fsetxattr(fd, name, value, value.length, 0));
    },
    removeExtended(fd, name) {
      if (calls.fremovexattr(fd, name) === 0) return;
      const errno = koffi.errno();
      if (!NO_ATTRIBUTE.includes(errno)) throw new SystemCallError('fremovexattr', errno);
    },
    forgetCached(fd) {
      calls.posixFadvise(fd, 0, 0, FADV_DONTNEED);
    },
    exitNow(code): never {
      calls.exit(code);
      throw new Error('_exit returned');
    },
  };
}

/** One recvmsg(2) of one byte with room for one SCM_RIGHTS descriptor; layouts in native-notes/. */
function receiveDescriptor(koffi: Ffi, receive: (message: Buffer) => number): number | undefined {
  const byte = Buffer.allocUnsafeSlow(1);
  const control = Buffer.from(new ArrayBuffer(24));
  const iovec = Buffer.from(new ArrayBuffer(16));
  iovec.writeBigUInt64LE(koffi.address(byte), 0);
  iovec.writeBigUInt64LE(1n, 8);
  const message = Buffer.from(new ArrayBuffer(56));
  message.writeBigUInt64LE(koffi.address(iovec), 16);
  message.writeBigUInt64LE(1n, 24);
  message.writeBigUInt64LE(koffi.address(control), 32);
  message.writeBigUInt64LE(BigInt(control.length), 40);
  const received = receive(message);
  const carried = message.readBigUInt64LE(40);
  if (received === 0 || carried < 20n) return undefined;
  if (control.readInt32LE(8) !== SOL_SOCKET || control.readInt32LE(12) !== SCM_RIGHTS) return undefined;
  return control.readInt32LE(16);
}
