import { Buffer } from 'node:buffer';
import type { MountRequest } from '../adapter.js';

/** The size of the buffer the addon copies the options into, without its terminator. */
const OPTIONS_LIMIT = 1023;

/** Stands for the beginning of a source that did not fit. */
const MARK = '...';

/** Largest read and write request: what libfuse 2.9 can do. */
export const REQUEST_BYTES = 131072;

/**
 * The one argument libfuse gets. nosuid and nodev are its defaults. The source comes last and loses its beginning
 * where it would not fit, for the addon cuts the end off in silence: a cut option would be another option.
 */
export function mountOptions(request: Pick<MountRequest, 'source' | 'allowOther' | 'readOnly'>): string {
  const options = [
    'subtype=imgfs',
    'default_permissions',
    `max_read=${REQUEST_BYTES}`,
    // Without it writes arrive in pieces of 4 KiB.
    'big_writes',
    // Removing an open file is refused by us; libfuse would try to hide it under another name first.
    'hard_remove',
    // As many as libfuse has threads to keep: beyond them it starts and ends one per request (see threads.ts). Nothing
    // is lost, for one thread answers them all.
    'max_background=8',
    // Our own inode numbers, and names and sizes asked for anew at each use: the package can tell the kernel neither
    // how long one file's attributes are good for nor to let go of them.
    'use_ino',
    'entry_timeout=0',
    'attr_timeout=0',
    // The caller has checked the mountpoint; an empty directory is not asked for by mount(8) either.
    'nonempty',
    ...(request.allowOther ? ['allow_other'] : []),
    ...(request.readOnly ? ['ro'] : []),
  ];
  const head = `-o${options.join(',')},fsname=`;
  return head + fitted(request.source, OPTIONS_LIMIT - head.length);
}

/** `source` escaped for libfuse's option parser, in at most `room` bytes: as much of its end as there is room for. */
function fitted(source: string, room: number): string {
  const pieces = [...source].map((character) => character.replace(/[\\,]/, '\\$&'));
  const whole = pieces.join('');
  if (Buffer.byteLength(whole) <= room) return whole;
  let left = room - MARK.length;
  const first = pieces.findLastIndex((piece) => {
    left -= Buffer.byteLength(piece);
    return left < 0;
  });
  return MARK + pieces.slice(first + 1).join('');
}
