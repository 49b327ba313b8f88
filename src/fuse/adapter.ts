/**
 * The seam between imgfs and FUSE. An adapter attaches a served tree to a mountpoint; what is served is told by two
 * small servers that know nothing of any protocol: names (main thread only) and data (any thread).
 */

/** A file or directory number: ROOT is the top, the same for as long as the mount lives. */
export type Ino = number;

export const ROOT: Ino = 1;

export type NodeKind = 'directory' | 'file';

/** What stat(2) shows. */
export interface Attributes {
  readonly ino: Ino;
  readonly kind: NodeKind;
  /** Permission bits, 0 to 0o7777. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly links: number;
  /** Bytes; exact. */
  readonly size: number;
  /** Bytes really allocated: tools look for holes only where this is less than the size. */
  readonly allocated: number;
  readonly blockSize: number;
  readonly mtimeSeconds: number;
  readonly mtimeNanoseconds: number;
  /** Milliseconds for which the kernel may believe this without asking again. */
  readonly validMs: number;
}

export interface DirectoryEntry {
  readonly ino: Ino;
  readonly name: string;
  readonly kind: NodeKind;
}

/** What statvfs(3) shows, in bytes. */
export interface Space {
  /** Becomes the discard granularity of a loop device on a view: the cluster size. */
  readonly blockSize: number;
  readonly total: number;
  readonly free: number;
  readonly files: number;
}

export interface OpenReply {
  /** The kernel may keep cached pages from earlier opens. */
  readonly keepCache: boolean;
  /** Reads bypass the page cache: for files that change other than by writes to them. */
  readonly directIo: boolean;
}

/**
 * Names: which files exist. Called on the main thread only. Every method throws ImgfsError: `missing` where there is
 * no such name, `read-only` or `permission` where the open is not allowed.
 */
export interface NameServer {
  lookup(parent: Ino, name: string): Ino;
  attributes(ino: Ino): Attributes;
  /** Without `.` and `..`. */
  entries(directory: Ino): readonly DirectoryEntry[];
  /** `writable` when the file is opened for writing in any way. */
  open(ino: Ino, writable: boolean): OpenReply;
  /** The last use of one `open` or `create` has ended. */
  release(ino: Ino): void;
  space(): Space;
  /** Changes a file's size. Throws `refused` where that would lose bytes, `unsupported` where it cannot be done. */
  resize(ino: Ino, size: number): void;
  /** Makes a file and opens it. Throws `exists`, and `usage` for a name that cannot be one. */
  create(parent: Ino, name: string): Ino;
  /** Throws `busy` while the file is open. */
  remove(parent: Ino, name: string): void;
  /** Throws `exists` where the new name is taken, `busy` while the file is open. */
  rename(parent: Ino, name: string, newParent: Ino, newName: string): void;
  /**
   * Sets an extended attribute, which is how a file is told to do what no other call says. Returns the files whose
   * bytes or sizes are others now: what the kernel keeps of them is to be dropped before this is answered. Throws
   * `unsupported` for an attribute that means nothing, `busy` while one of these files is open.
   */
  setExtended(ino: Ino, name: string, value: Uint8Array): readonly Ino[];
}

/** Data: bytes of the files. Called on whichever thread received the request. */
export interface DataServer {
  /** Whether this server has the file; what a worker's lacks is served by the main thread's, which has all. */
  serves(ino: Ino): boolean;
  /** Fills `into` from `at` and returns the bytes had: fewer only at the end of the file. Throws ImgfsError. */
  read(ino: Ino, into: Uint8Array, at: number): number;
  /** The next data or hole at or after `at`, as lseek(2) has it; undefined stands for ENXIO. */
  seek(ino: Ino, at: number, want: 'data' | 'hole'): number | undefined;
  /**
   * Writes `from` at `at` and returns the bytes taken: fewer only where the file ends, which no write moves. Throws
   * `no-space` when there is nothing to take, `read-only`.
   */
  write(ino: Ino, from: Uint8Array, at: number): number;
  /**
   * Makes the range read as zeros, as far as the file goes, and returns the bytes done. `unmap` gives their space
   * back.
   */
  zero(ino: Ino, at: number, length: number, options: { readonly unmap: boolean }): number;
  /** Returns when all that was written is durable. */
  flush(ino: Ino): void;
  /** At a close: throws when something written is known to be lost. Promises nothing about durability. */
  verify(ino: Ino): void;
}

/** Where and how to attach. The caller has checked the mountpoint and cleaned up a dead mount of ours on it. */
export interface MountRequest {
  /** Absolute and resolved. */
  readonly mountpoint: string;
  readonly mountpointKind: NodeKind;
  /** What the mount table shows as the source; the type is always `fuse.imgfs`. */
  readonly source: string;
  readonly allowOther: boolean;
  readonly readOnly: boolean;
  /** The kernel may keep written bytes and send them later: fewer and larger writes, errors only at fsync and close. */
  readonly writebackCache: boolean;
  /** One line per request, through `log`. */
  readonly trace: boolean;
  readonly log: (message: string) => void;
}

/** How a data worker thread gets its DataServer: plain data only, with descriptors that all threads share. */
export interface WorkerPlan {
  /** URL of a module that exports `openData(job: unknown): DataServer | Promise<DataServer>`. */
  readonly module: string;
  /** Its argument, in structured-clone form. */
  readonly job: unknown;
  readonly count: number;
  /** The threads share what one that dies may leave locked: serving ends with the first of them. */
  readonly vital?: boolean;
}

export interface Served {
  readonly names: NameServer;
  /** On the main thread; serves every file. */
  readonly data: DataServer;
  /** Ignored by an adapter without threads. */
  readonly workers: WorkerPlan;
}

/** A live mount. */
export interface Session {
  /** Resolves when the mount is gone and no thread serves it any more; rejects if serving broke down. */
  readonly ended: Promise<void>;
  /** Asks for the end. Throws `busy` while files are open, unless lazy. */
  unmount(options: { readonly lazy: boolean }): Promise<void>;
}

export interface AdapterAbilities {
  /** SEEK_HOLE and SEEK_DATA reach us. */
  readonly seeksHoles: boolean;
  /** Punching holes and zeroing ranges reach us. */
  readonly punchesHoles: boolean;
  /** Largest read or write request in bytes. */
  readonly requestBytes: number;
  /** The kernel's writeback cache can be had. */
  readonly writebackCache: boolean;
  /** A regular file can be the mountpoint. */
  readonly fileMountpoint: boolean;
  /** Requests are served by several threads. */
  readonly threads: boolean;
}

export interface Adapter {
  readonly name: 'kernel' | 'fuse-native';
  readonly can: AdapterAbilities;
  /** Why it cannot work on this machine at all (platform, FFI, missing library); undefined when it can. */
  unavailable(): string | undefined;
  /** Resolves when the mount is live. Throws ImgfsError with what to do about it; then nothing is left mounted. */
  attach(request: MountRequest, served: Served): Promise<Session>;
}
