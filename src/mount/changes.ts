/** Changing the tree: snapshots as files, and sizes. Main thread only. */
import type { Ino } from '../fuse/adapter.js';
import type { Image } from '../image/image.js';
import { pickSnapshot } from '../image/named-snapshot.js';
import { checkNewSize } from '../image/new-size.js';
import { ImgfsError } from '../lib/errors.js';
import { escapeName, unescapeName } from '../tree/names.js';
import type { DirectoryNode, TreeNode, ViewNode } from '../tree/tree.js';
import type { LiveTree } from './live-tree.js';

const EXTENSION = '.raw';
/** A snapshot's longest file name, were it to hold machine state, must not pass what Linux takes. */
const LONGEST_STEM = 255 - '.vmstate'.length;

export interface ChangesParts {
  readonly live: LiveTree;
  readonly image: (index: number) => Image;
  readonly isOpen: (ino: Ino) => boolean;
  /** Lets go of what is kept of a view. */
  readonly forget: (ino: Ino) => void;
  /** The kernel keeps written pages, and with them takes its own word for the size of a file. */
  readonly sizesStay: boolean;
}

/** Every method throws ImgfsError, and then nothing has changed. What was done is durable. */
export class Changes {
  constructor(private readonly parts: ChangesParts) {}

  /** A disk can grow; making it smaller loses what was at its end, and is not done by the way of a mount. */
  resize(ino: Ino, size: number): void {
    const node = this.parts.live.nodes.get(ino);
    if (node?.kind !== 'view' || !node.writable) throw readOnly(node);
    if (size === node.size) return;
    if (size < node.size) {
      throw new ImgfsError('refused', `"${node.name}" cannot be made smaller`, {
        hint: 'end the mount and use imgfs resize --shrink',
      });
    }
    const image = this.parts.image(node.source.image);
    checkNewSize(image, size, `"${node.name}"`);
    image.resize(size);
    this.parts.live.refresh();
  }

  /**
   * Makes the disk of the view `ino` what it was at a snapshot, given by id or else name, and returns the views that
   * show it. Not while one of them is open: its user would find another disk from one read to the next.
   */
  apply(ino: Ino, wanted: string): readonly Ino[] {
    const { live, image: imageOf, isOpen, forget, sizesStay } = this.parts;
    const node = live.nodes.get(ino);
    if (node?.kind !== 'view' || !node.writable) throw readOnly(node);
    const image = imageOf(node.source.image);
    const { id, diskSize } = pickSnapshot(image.snapshots(), wanted, { first: 'id', of: `"${node.name}"` });
    const shown = [...live.nodes.values()].filter(
      (one) => one.kind === 'view' && one.changes && one.source.image === node.source.image,
    );
    if (shown.some((one) => isOpen(one.ino))) throw new ImgfsError('busy', `"${node.name}" is open`);
    if (sizesStay && diskSize !== node.size) {
      throw new ImgfsError('unsupported', `"${node.name}" cannot change its size with writeback_cache`);
    }
    image.applySnapshot(id);
    for (const one of shown) forget(one.ino);
    live.refresh();
    return shown.map((one) => one.ino);
  }

  /** Takes a snapshot and returns its file. */
  create(parent: Ino, name: string): Ino {
    const directory = this.directory(parent);
    const { live } = this.parts;
    this.parts.image(directory.snapshotsOf).createSnapshot(freeName(directory, name));
    live.refresh();
    const made = childOf(live.nodes.get(parent), name);
    if (made === undefined) throw new Error(`the snapshot for ${name} has another name`);
    return made.ino;
  }

  remove(parent: Ino, name: string): void {
    const directory = this.directory(parent);
    const { node, id } = snapshotIn(directory, name);
    const files = [...directory.children.values()].filter((one) => one.kind === 'view' && idOf(one) === id);
    if (files.some((file) => this.parts.isOpen(file.ino))) {
      throw new ImgfsError('busy', `the snapshot "${node.name}" is open`);
    }
    for (const file of files) this.parts.forget(file.ino);
    this.parts.image(directory.snapshotsOf).deleteSnapshot(id);
    this.parts.live.refresh();
  }

  rename(parent: Ino, name: string, newParent: Ino, newName: string): void {
    const directory = this.directory(parent);
    const { id } = snapshotIn(directory, name);
    if (newParent !== parent) throw new ImgfsError('refused', 'a snapshot stays in its own directory');
    if (newName === name) return;
    this.parts.image(directory.snapshotsOf).renameSnapshot(id, freeName(directory, newName));
    this.parts.live.refresh();
  }

  private directory(ino: Ino): DirectoryNode & { readonly snapshotsOf: number } {
    const node = this.parts.live.nodes.get(ino);
    if (node?.kind !== 'directory') throw new ImgfsError('missing', `there is no directory ${ino}`);
    const { snapshotsOf } = node;
    if (snapshotsOf !== undefined) return { ...node, snapshotsOf };
    if (node.name === 'snapshots') throw readOnly(node);
    throw new ImgfsError('refused', 'files come and go in snapshots/ only');
  }
}

function snapshotIn(directory: DirectoryNode, name: string): { readonly node: ViewNode; readonly id: string } {
  const node = childOf(directory, name);
  if (node === undefined) throw new ImgfsError('missing', `there is no "${name}"`);
  if (node.kind === 'view' && node.source.kind === 'snapshot') return { node, id: node.source.id };
  throw new ImgfsError('refused', `"${name}" belongs to its snapshot`);
}

/** The snapshot's name that a new file's name stands for. Throws `exists`, and `usage` where it stands for none. */
function freeName(directory: DirectoryNode, name: string): Uint8Array {
  if (directory.children.has(name)) throw new ImgfsError('exists', `there is a "${name}" already`);
  const stem = name.endsWith(EXTENSION) ? name.slice(0, -EXTENSION.length) : undefined;
  const bytes = stem === undefined ? undefined : unescapeName(stem);
  if (bytes !== undefined && Buffer.byteLength(escapeName(bytes)) <= LONGEST_STEM) return bytes;
  throw new ImgfsError('usage', `"${name}" is no name of a snapshot's file`, { hint: 'it is called NAME.raw' });
}

function childOf(node: TreeNode | undefined, name: string): TreeNode | undefined {
  return node?.kind === 'directory' ? node.children.get(name) : undefined;
}

function idOf(node: ViewNode): string | undefined {
  return 'id' in node.source ? node.source.id : undefined;
}

function readOnly(node: TreeNode | undefined): ImgfsError {
  return new ImgfsError('read-only', `"${node?.name ?? 'it'}" is read-only`);
}
