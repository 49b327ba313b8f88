/** What is asked of the kernel at INIT, and why; the numbers behind it are in native-notes/kernel-adapter.md. */
import { ImgfsError } from '../../lib/errors.js';
import { commonFlags, INIT_FLAG, INIT_FLAG2, type InitAnswer, type InitOffer, MAX_WRITE } from './layout.js';

const MAJOR = 7;
/** The last minor version whose structures layout.ts was written from. */
const MINOR = 40;
/** Replies got their present sizes with 7.23 (Linux 3.15), older than any kernel Node itself runs on. */
const OLDEST_MINOR = 23;
const MAX_PAGES = 256;
const MAX_BACKGROUND = 64;
const CONGESTION_THRESHOLD = 48;

/**
 * No export support (needs LOOKUP of `..` from any inode), no locks (the kernel's local ones serve), no killpriv, and
 * the writeback cache only where it was asked for. DIRECT_IO_ALLOW_MMAP: without it a shared mapping of a view opened
 * without page cache is ENODEV.
 */
const WANTED =
  INIT_FLAG.ASYNC_READ +
  INIT_FLAG.BIG_WRITES +
  INIT_FLAG.ASYNC_DIO +
  INIT_FLAG.PARALLEL_DIROPS +
  INIT_FLAG.MAX_PAGES +
  INIT_FLAG.INIT_EXT;
const WANTED2 = INIT_FLAG2.DIRECT_IO_ALLOW_MMAP;

/**
 * The answer to an INIT. A kernel of a later major version is told ours and then sends another INIT, so the caller
 * goes on until `offer.major` is 7. Throws ImgfsError `system` for a kernel too old.
 */
export function negotiate(offer: InitOffer, wishes = { writebackCache: false }): InitAnswer {
  if (offer.major < MAJOR || (offer.major === MAJOR && offer.minor < OLDEST_MINOR)) {
    throw new ImgfsError('system', `cannot mount: the kernel speaks FUSE ${offer.major}.${offer.minor} only`, {
      hint: `a kernel with FUSE ${MAJOR}.${OLDEST_MINOR} or later (Linux 3.15) is needed`,
    });
  }
  return {
    major: MAJOR,
    minor: offer.major === MAJOR ? Math.min(offer.minor, MINOR) : MINOR,
    maxReadahead: offer.maxReadahead,
    flags: commonFlags(WANTED + (wishes.writebackCache ? INIT_FLAG.WRITEBACK_CACHE : 0), offer.flags),
    flags2: commonFlags(WANTED2, offer.flags2),
    maxBackground: MAX_BACKGROUND,
    congestionThreshold: CONGESTION_THRESHOLD,
    maxWrite: MAX_WRITE,
    maxPages: MAX_PAGES,
  };
}
