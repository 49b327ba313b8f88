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
  /** Reads bypass the page cache: for files whose content is made anew and may change its size. */
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
  /** The last use of one `open` has ended. */
  release(ino: Ino): void;
  space(): Space;
}

/** Data: bytes of the files. Called on whichever thread received the request. */
export interface DataServer {
  /** Whether this server has the file; what a worker's lacks is served by the main thread's, which has all. */
  serves(ino: Ino): boolean;
  /** Fills `into` from `at` and returns the bytes had: fewer only at the end of the file. Throws ImgfsError. */
  read(ino: Ino, into: Uint8Array, at: number): number;
  /** The next data or hole at or after `at`, as lseek(2) has it; undefined stands for ENXIO. */
  seek(ino: Ino, at: number, want: 'data' | 'hole'): number | undefined;
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
  /** Largest read request in bytes. */
  readonly requestBytes: number;
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
