import { ImgfsError } from '../lib/errors.js';

/** A run of host bytes that is all stored (`data`) or all a hole; a hole reads as zeros. */
export interface StorageExtent {
  readonly data: boolean;
  /** Bytes from the offset asked about to the end of the run; at least 1. */
  readonly length: number;
}

/**
 * Bytes on the host: a file, a block device, a range of another storage, memory. Synchronous on purpose: a driver is
 * a pure function of what its storage answers.
 *
 * Offsets and lengths are bytes, plain numbers, exact up to 2^53. Two writes may reach the medium in any order unless
 * a `flush` stands between them: it is the only barrier there is.
 */
export interface Storage {
  /** How messages call it: a path, or a description of the range. */
  readonly name: string;
  readonly writable: boolean;
  /**
   * Set where bytes are stored otherwise than as they are, in sectors of that size (encrypted). A part of a sector is
   * then written by reading, changing and writing all of it: two threads must not do that to one sector at once. Holes
   * and space never written do not read as zeros.
   */
  readonly sector?: number;
  /** Each write goes to the medium before it returns, in whole blocks: small ones are worth being gathered. */
  readonly unbuffered?: boolean;
  /** Current length in bytes. */
  size(): number;
  /**
   * Fills `into` from offset `at` and returns the bytes read: fewer than asked for only where the storage ends.
   * Throws `io` when the host fails, or when the storage has become shorter than it was when it was opened.
   */
  read(into: Uint8Array, at: number): number;
  /** Writes all of `from` at `at`, growing the storage if needed. Throws `read-only`, `no-space`, `io`. */
  write(from: Uint8Array, at: number): void;
  /** Returns when everything written before is durable. After a failure every later write and flush fails too. */
  flush(): void;
  /** Changes the length; new bytes read as zeros. */
  resize(size: number): void;
  /**
   * Gives the range back to the host where it can; afterwards it reads as zeros either way. The length of the storage
   * stays as it is: what lies past the end is ignored.
   */
  discard(at: number, length: number): void;
  /**
   * Has the host set space aside for the range, so that a later write into it cannot fail for want of space. What is
   * stored stays; where the storage ends before the range does, it grows, by zeros. When it throws (`no-space`, `io`),
   * it may have grown in part. Where the host cannot set space aside, zeros are written into what it calls holes.
   */
  allocate(at: number, length: number): void;
  /**
   * As `write`, of `length` bytes that lie at `from` of `source`: the host copies them itself, or has both storages
   * share them; with `share` only the latter. False where it does not do that for these two, or `source` ends before; any part of the range may then
   * have been written. Absent where no host could.
   */
  copyFrom?(source: Storage, from: number, at: number, length: number, share?: 'share'): boolean;
  /** Whether both are all of one file of the host. Absent where that is only so if they are one object. */
  sameAs?(other: Storage): boolean;
  /** The run that holds `at` (0 <= at < size). Where the host cannot tell, everything is data. */
  extent(at: number): StorageExtent;
  /** Bytes the host has allocated for it (what `du` counts). */
  allocated(): number;
  /** Releases what its maker said it owns. Closing twice is allowed; any other use after close is a bug. */
  close(): void;
}

/** Fills `into` completely, with zeros past the end: how data (never a table) is read. */
export function readPadded(storage: Storage, into: Uint8Array, at: number): void {
  const got = storage.read(into, at);
  if (got < into.length) into.fill(0, got);
}

/** Fills `into` completely or throws `truncated`: how a table is read. `what` names the table. */
export function readTable(storage: Storage, into: Uint8Array, at: number, what: string): void {
  const got = storage.read(into, at);
  if (got < into.length) {
    throw new ImgfsError('truncated', `${storage.name}: the image ends inside its ${what}`);
  }
}

/** Zeros written at once. */
const ZERO_STEP = 1024 * 1024;

/** Writes zeros over the range, growing the storage if needed: space is taken for all of it. */
export function writeZeros(storage: Storage, at: number, length: number): void {
  const zeros = new Uint8Array(Math.min(length, ZERO_STEP));
  for (let done = 0; done < length; done += zeros.length) {
    storage.write(zeros.subarray(0, Math.min(zeros.length, length - done)), at + done);
  }
}
