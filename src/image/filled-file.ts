import fs from 'node:fs';
import { ALIGNMENT, areBlocks } from '../lib/aligned.js';
import { hostError, systemCode } from '../lib/errors.js';
import { libc } from '../lib/libc.js';
import { FileStorage, writeWhole } from '../storage/file.js';

/**
 * File systems on which it was measured that large pieces are written faster past the page cache: ext4 and its elders,
 * XFS. Their magic numbers, of statfs(2).
 */
const DIRECT_ON: ReadonlySet<number> = new Set([0xef53, 0x58465342]);
/** Bytes. The host gathers smaller pieces better than we would. */
const LARGE = 512 * 1024;
/** Bytes that the cache takes in any case: it hides what so little takes to be written, and has it for who reads it next. */
const CACHED_AT_FIRST = 128 * 1024 * 1024;
/** The host is asked to begin writing out what lies in its cache after every so many bytes. */
const FLUSH_EVERY = 4 * 1024 * 1024;
/** That it has done so is heard now and then only: so often it is asked meanwhile. */
const MOST_ASKED = 32;
/** What the host answers where such a piece cannot be written so. */
const NOT_DIRECT = new Set(['EINVAL', 'EOPNOTSUPP']);

/**
 * A new file that nobody can find while it is being filled. Its flushes do nothing: one at the end is enough, and it has
 * little left to wait for. Where much is written, large pieces go past the host's page cache (O_DIRECT): they need no
 * second copy, no memory for it, and drive nothing of others out of it. The rest the host begins to write out early. The
 * kernel keeps cache and medium the same for what one program does to a file in one order, so it may be read at any time.
 */
export class FilledFile extends FileStorage {
  /** The file opened once more: whether it is written past the cache is a property of the opening. */
  private direct: number | undefined;
  private cached = 0;
  private asked = 0;

  /** For an open descriptor, which stays its owner's. */
  constructor(fd: number, name: string) {
    super({ fd, name, size: 0, writable: true, unsafe: true });
    this.direct = openedDirect(fd);
  }

  override write(from: Uint8Array, at: number): void {
    if (this.wroteDirect(from, at)) return;
    super.write(from, at);
    const before = this.cached;
    this.cached += from.length;
    if (Math.floor(before / FLUSH_EVERY) !== Math.floor(this.cached / FLUSH_EVERY)) this.startFlush();
  }

  /** What is read or written afterwards goes through the cache. */
  override close(): void {
    super.close();
    this.endDirect();
  }

  /** False where nothing, or only a part, could be written so. */
  private wroteDirect(from: Uint8Array, at: number): boolean {
    const { direct } = this;
    if (direct === undefined || this.cached < CACHED_AT_FIRST) return false;
    if (from.length < LARGE || !areBlocks(from, at, ALIGNMENT)) return false;
    try {
      writeWhole(direct, from, at);
      return true;
    } catch (error) {
      if (!NOT_DIRECT.has(systemCode(error) ?? '')) throw hostError(`cannot write ${this.name}`, error);
      this.endDirect();
      return false;
    }
  }

  private endDirect(): void {
    if (this.direct !== undefined) fs.closeSync(this.direct);
    this.direct = undefined;
  }

  private startFlush(): void {
    if (this.asked === MOST_ASKED) return;
    this.asked++;
    libc()?.startWriteback(this.fd, () => {
      this.asked--;
    });
  }
}

/** Undefined where that would not be faster, or cannot be. */
function openedDirect(fd: number): number | undefined {
  try {
    const path = `/proc/self/fd/${fd}`;
    if (!DIRECT_ON.has(fs.statfsSync(path).type)) return undefined;
    return fs.openSync(path, fs.constants.O_WRONLY + fs.constants.O_DIRECT);
  } catch (error) {
    if (systemCode(error) === undefined) throw error;
    return undefined;
  }
}
