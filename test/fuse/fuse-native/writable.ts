/**
 * A tree that can be changed: file.raw of 6 GiB, kept in memory as far as it is written, and whatever is created. The
 * file full.raw takes one write of 4 KiB and no more; lost.raw takes everything and fails to keep it.
 */
import { type Attributes, type Ino, ROOT, type Served } from '../../../src/fuse/adapter.js';
import { ImgfsError } from '../../../src/lib/errors.js';

export const SIZE = 6 * 2 ** 30;
const PAGE = 4096;

interface File {
  readonly ino: Ino;
  readonly pages: Map<number, Buffer>;
  size: number;
  users: number;
}

class Tree {
  readonly files = new Map<string, File>();
  #next = 2;

  make(name: string, size: number): File {
    if (this.files.has(name)) throw new ImgfsError('exists', `${name} exists`);
    const file = { ino: this.#next++, pages: new Map<number, Buffer>(), size, users: 0 };
    this.files.set(name, file);
    return file;
  }

  named(name: string): File {
    const file = this.files.get(name);
    if (file === undefined) throw new ImgfsError('missing', `no ${name}`);
    return file;
  }

  at(ino: Ino): File {
    const file = [...this.files.values()].find((candidate) => candidate.ino === ino);
    if (file === undefined) throw new ImgfsError('missing', `no inode ${ino}`);
    return file;
  }

  nameOf(ino: Ino): string {
    return [...this.files].find(([, file]) => file.ino === ino)?.[0] ?? '';
  }
}

/** Copies between `bytes` and the pages of the file, in the direction `write` says. */
function transfer(file: File, bytes: Uint8Array, at: number, write: boolean): number {
  const length = Math.max(0, Math.min(bytes.length, file.size - at));
  for (let done = 0; done < length; ) {
    const page = Math.floor((at + done) / PAGE);
    const within = (at + done) % PAGE;
    const part = Math.min(PAGE - within, length - done);
    const held = file.pages.get(page) ?? Buffer.alloc(PAGE);
    if (write) {
      held.set(bytes.subarray(done, done + part), within);
      file.pages.set(page, held);
    } else bytes.set(held.subarray(within, within + part), done);
    done += part;
  }
  return length;
}

function attributes(tree: Tree, ino: Ino): Attributes {
  const file = ino === ROOT ? undefined : tree.at(ino);
  return {
    ino,
    kind: file === undefined ? 'directory' : 'file',
    mode: file === undefined ? 0o755 : 0o644,
    uid: 0,
    gid: 0,
    links: 1,
    size: file?.size ?? 0,
    allocated: (file?.pages.size ?? 0) * PAGE,
    blockSize: PAGE,
    mtimeSeconds: 1,
    mtimeNanoseconds: 0,
    validMs: 0,
  };
}

/** What adapter-process.ts serves for `served: <this module>`. */
export function fakeServed(): Served {
  const tree = new Tree();
  for (const name of ['file.raw', 'full.raw', 'lost.raw']) tree.make(name, SIZE);
  const idle = (name: string): File => {
    const file = tree.named(name);
    if (file.users > 0) throw new ImgfsError('busy', `${name} is open`);
    return file;
  };
  const open = (file: File): File => {
    file.users += 1;
    return file;
  };
  return {
    names: {
      lookup: (_parent, name) => tree.named(name).ino,
      attributes: (ino) => attributes(tree, ino),
      entries: () => [...tree.files].map(([name, { ino }]) => ({ ino, name, kind: 'file' as const })),
      open(ino) {
        open(tree.at(ino));
        return { keepCache: false, directIo: false };
      },
      release(ino) {
        tree.at(ino).users -= 1;
      },
      space: () => ({ blockSize: PAGE, total: 2 ** 40, free: 2 ** 40, files: 3 }),
      resize(ino, size) {
        tree.at(ino).size = size;
      },
      create: (_parent, name) => open(tree.make(name, 0)).ino,
      remove(_parent, name) {
        idle(name);
        tree.files.delete(name);
      },
      rename(_parent, name, _newParent, newName) {
        if (tree.files.has(newName)) throw new ImgfsError('exists', `${newName} exists`);
        tree.files.set(newName, idle(name));
        tree.files.delete(name);
      },
      setExtended(ino, name, value) {
        if (name !== 'user.size') throw new ImgfsError('unsupported', `no ${name}`);
        tree.at(ino).size = Number(Buffer.from(value).toString());
        return [ino];
      },
    },
    data: {
      serves: () => true,
      read: (ino, into, at) => transfer(tree.at(ino), into, at, false),
      seek: () => undefined,
      write(ino, from, at) {
        const file = tree.at(ino);
        if (tree.nameOf(ino) === 'full.raw' && file.pages.size > 0) throw new ImgfsError('no-space', 'full');
        return transfer(file, from, at, true);
      },
      zero: () => 0,
      flush() {},
      verify(ino) {
        const file = tree.at(ino);
        if (tree.nameOf(ino) === 'lost.raw' && file.pages.size > 0) throw new ImgfsError('io', 'a write was lost');
      },
    },
    workers: { module: import.meta.url, job: {}, count: 1 },
  };
}
