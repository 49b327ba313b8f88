/** Open directories: each shows the entries it had when it was opened or rewound, so that offsets stay true. */
import { constants } from 'node:os';
import { type DirectoryEntry, type Ino, type NameServer, ROOT } from '../adapter.js';
import { putDirent } from './layout.js';

const { EBADF } = constants.errno;

interface OpenDirectory {
  readonly ino: Ino;
  listed: readonly DirectoryEntry[];
}

/** The table of directory handles. Handle numbers are not used twice. */
export class Directories {
  private readonly opened = new Map<number, OpenDirectory>();
  private readonly parents = new Map<Ino, Ino>([[ROOT, ROOT]]);
  private last = 0;

  constructor(private readonly names: NameServer) {}

  /** Notes where a directory was found: what its `..` will show. */
  remember(directory: Ino, parent: Ino): void {
    this.parents.set(directory, parent);
  }

  /** Returns a new handle. Throws what `entries` throws. */
  open(ino: Ino): number {
    const listed = this.list(ino);
    this.last += 1;
    this.opened.set(this.last, { ino, listed });
    return this.last;
  }

  /** Puts as many entries as fit into `size` bytes, from offset `at` on; none is the end. */
  read(handle: number, at: number, size: number, reply: Buffer): number {
    const directory = this.opened.get(handle);
    if (directory === undefined) return -EBADF;
    if (at === 0) directory.listed = this.list(directory.ino);
    let end = 0;
    for (let index = at; index < directory.listed.length; index++) {
      const next = putDirent(reply, end, size, directory.listed[index]!, index + 1);
      if (next === undefined) break;
      end = next;
    }
    return end;
  }

  close(handle: number): number {
    this.opened.delete(handle);
    return 0;
  }

  private list(ino: Ino): readonly DirectoryEntry[] {
    const parent = this.parents.get(ino) ?? ROOT;
    return [
      { ino, name: '.', kind: 'directory' },
      { ino: parent, name: '..', kind: 'directory' },
      ...this.names.entries(ino),
    ];
  }
}
