/** Reading requests from /dev/fuse and writing replies to it: which of its errors mean what. */
import { readSync, writeSync } from 'node:fs';
import { systemCode } from '../../lib/errors.js';

/** `receive` saw the end of the mount. */
export const ENDED = -1;

/**
 * Blocks for one request and returns its length, or ENDED once the mount is gone. `into` must have REQUEST_BYTES.
 * Throws what the device answers otherwise: nobody can serve a mount whose device is broken.
 */
export function receive(fd: number, into: Buffer): number {
  for (;;) {
    try {
      const length = readSync(fd, into, 0, into.length, null);
      // The device never says end of file; whatever does would be asked for ever.
      return length === 0 ? ENDED : length;
    } catch (error) {
      switch (systemCode(error)) {
        case 'ENODEV':
        case 'ECONNABORTED':
          return ENDED;
        case 'ENOENT': // the request was interrupted before we could read it
        case 'EINTR':
        case 'EAGAIN':
          break;
        default:
          throw error;
      }
    }
  }
}

/**
 * Writes the first `length` bytes of `reply`, in one call as the device demands. Never throws: an aborted request
 * (ENOENT) needs no reply, at the end of the mount (ENODEV) the next `receive` says so, and a reply that the kernel
 * finds malformed (EINVAL) has been turned into EIO there.
 */
export function send(fd: number, reply: Buffer, length: number): void {
  try {
    writeSync(fd, reply, 0, length, null);
  } catch (error) {
    if (systemCode(error) === undefined) throw error;
  }
}
