/** Whose a file of the mount is, and who may do what with it. Pure. */

/** Whose a node is and when it last changed. */
export interface Ownership {
  readonly uid: number;
  readonly gid: number;
  /** Permission bits of the image file; 0o777 at most. */
  readonly mode: number;
  readonly mtimeSeconds: number;
  readonly mtimeNanoseconds: number;
}

const READ_BITS = [0o400, 0o040, 0o004] as const;

/** Who may read a file has this fraction of that bit for writing it. */
const WRITE = 1 / 2;

/** Every permission that lets somebody read, without those that let anybody write or execute. */
export function readableMode(mode: number): number {
  return READ_BITS.reduce((kept, bit) => (granted(mode, bit) ? kept + bit : kept), 0);
}

/** As `readableMode`, with writing for all who may do both. */
export function writableMode(mode: number): number {
  return READ_BITS.reduce(
    (kept, bit) => (granted(mode, bit) && granted(mode, bit * WRITE) ? kept + bit * WRITE : kept),
    readableMode(mode),
  );
}

/** Who may read a file may list and enter the directory that holds it. */
export function directoryMode(mode: number): number {
  return READ_BITS.reduce((kept, bit) => (granted(mode, bit) ? kept + bit + bit / 4 : kept), 0);
}

/**
 * Whose the views of an image are that shows other files too (a backing chain, itself first): its own file's, but group
 * and others may read only what every file lets them read. Its owner chose what it shows.
 */
export function sharedOwner(files: readonly [Ownership, ...Ownership[]]): Ownership {
  const [own, ...others] = files;
  const [user, group, world] = READ_BITS;
  const everyone = others.every((file) => granted(file.mode, world));
  const members = others.every((file) => granted(file.mode, file.gid === own.gid ? group : world));
  const kept = (bit: number, allowed: boolean): number => {
    if (!allowed || !granted(own.mode, bit)) return 0;
    return bit + (granted(own.mode, bit * WRITE) ? bit * WRITE : 0);
  };
  return { ...own, mode: kept(user, true) + kept(group, members) + kept(world, everyone) };
}

function granted(mode: number, bit: number): boolean {
  return Math.floor(mode / bit) % 2 === 1;
}
