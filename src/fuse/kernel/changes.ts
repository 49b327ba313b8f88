/** The requests that change names, sizes and attributes: the front desk's handlers of them. */
import { constants } from 'node:os';
import type { Ino, NameServer } from '../adapter.js';
import { createdNameOf, renameOf, type SetAttributes, setAttributesOf, setExtendedOf } from './change-layout.js';
import type { Handler } from './frontdesk.js';
import { inodeOf, nameOf, putAttributes, putEntry, putOpen, REPLY_HEADER } from './layout.js';
import { OPCODE } from './opcodes.js';

const { EINVAL, ENOENT, EPERM, EROFS } = constants.errno;
const { SETATTR, CREATE, UNLINK, RENAME, RENAME2 } = OPCODE;
const { SYMLINK, MKNOD, MKDIR, RMDIR, LINK, SETXATTR, REMOVEXATTR, TMPFILE } = OPCODE;

/**
 * Where the kernel has everything read-only it asks for none of this; what comes all the same is refused as such.
 * `drop` has the kernel forget what it keeps of a file.
 */
export function changes(names: NameServer, readOnly: boolean, drop: (ino: Ino) => void): [number, Handler][] {
  const refuse = (errno: number): Handler => {
    return () => -errno;
  };
  const never = [SYMLINK, MKNOD, MKDIR, RMDIR, LINK, REMOVEXATTR, TMPFILE] as const;
  const possible: [number, Handler][] = [
    [SETATTR, (request, reply) => setAttributes(names, request, reply)],
    [CREATE, (request, reply) => create(names, request, reply)],
    [UNLINK, (request) => unlink(names, request)],
    [RENAME, (request) => rename(names, request, false)],
    [RENAME2, (request) => rename(names, request, true)],
    [SETXATTR, (request) => setExtended(names, request, drop)],
  ];
  return [
    ...never.map((opcode): [number, Handler] => [opcode, refuse(readOnly ? EROFS : EPERM)]),
    ...possible.map(([opcode, handler]): [number, Handler] => [opcode, readOnly ? refuse(EROFS) : handler]),
  ];
}

/** Times may be set and are forgotten, so that `touch` works; owner and mode are those of the image. */
function setAttributes(names: NameServer, request: Buffer, reply: Buffer): number {
  const ino = inodeOf(request);
  const wanted = setAttributesOf(request);
  if (!keepsOwnership(names, ino, wanted)) return -EPERM;
  if (wanted.size !== undefined) names.resize(ino, wanted.size);
  return putAttributes(reply, names.attributes(ino));
}

function keepsOwnership(names: NameServer, ino: Ino, { mode, uid, gid }: SetAttributes): boolean {
  if (mode === undefined && uid === undefined && gid === undefined) return true;
  const now = names.attributes(ino);
  return (mode ?? now.mode) === now.mode && (uid ?? now.uid) === now.uid && (gid ?? now.gid) === now.gid;
}

/** fuse_entry_out, then fuse_open_out. */
function create(names: NameServer, request: Buffer, reply: Buffer): number {
  const name = createdNameOf(request);
  if (name === undefined) return -EINVAL;
  const ino = names.create(inodeOf(request), name);
  const entry = putEntry(reply, names.attributes(ino));
  return entry + putOpen(reply, 0, { keepCache: false, directIo: false, noFlush: true }, REPLY_HEADER + entry);
}

function unlink(names: NameServer, request: Buffer): number {
  const name = nameOf(request);
  if (name === undefined) return -ENOENT;
  names.remove(inodeOf(request), name);
  return 0;
}

function rename(names: NameServer, request: Buffer, withFlags: boolean): number {
  const { newParent, from, to, special } = renameOf(request, withFlags);
  if (special || to === undefined) return -EINVAL;
  if (from === undefined) return -ENOENT;
  names.rename(inodeOf(request), from, newParent, to);
  return 0;
}

/** The notices go before the reply: whoever waits for that finds nothing old afterwards. */
function setExtended(names: NameServer, request: Buffer, drop: (ino: Ino) => void): number {
  const wanted = setExtendedOf(request);
  if (wanted === undefined) return -EINVAL;
  for (const ino of names.setExtended(inodeOf(request), wanted.name, wanted.value)) drop(ino);
  return 0;
}
