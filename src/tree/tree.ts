/**
 * The mounted tree: which views exist and what they are called. Pure: from a description of opened images to a table
 * of nodes. No I/O, no protocol.
 */
import type { Snapshot } from '../image/image.js';
import { directoryMode, type Ownership, readableMode, writableMode } from './modes.js';
import { imageDirectories, snapshotStems, stemOf, uniqueNames } from './names.js';
import { Numbering } from './numbering.js';

/** Which bytes a view shows. Plain data: it travels to worker threads. */
export type ViewSource = { readonly image: number } & (
  | { readonly kind: 'active' }
  | { readonly kind: 'snapshot'; readonly id: string }
  | { readonly kind: 'vmstate'; readonly id: string }
  /** 0 is the base of the backing chain; the top is the last. */
  | { readonly kind: 'layer'; readonly depth: number }
);

/** What the tree needs to know of one opened image. */
export interface TreeImage {
  /** The image file's name, without its directory. */
  readonly fileName: string;
  readonly owner: Ownership;
  readonly size: number;
  /** `disk.raw` can be written. */
  readonly writable: boolean;
  /** The format can hold snapshots, even if this image has none. */
  readonly holdsSnapshots: boolean;
  /** Files in `snapshots/` can be made, removed and renamed. */
  readonly changesSnapshots: boolean;
  readonly snapshots: readonly Snapshot[];
  /** The snapshot whose state `disk.raw` shows; undefined for the active layer. */
  readonly shown?: Snapshot | undefined;
  /** The backing chain, base first and this image last; empty without a backing file. */
  readonly layers: readonly { readonly fileName: string; readonly size: number }[];
}

interface NodeCommon {
  readonly ino: number;
  readonly name: string;
  readonly owner: Ownership;
}

export interface DirectoryNode extends NodeCommon {
  readonly kind: 'directory';
  /** Of which image this is the directory of snapshots that can be changed. */
  readonly snapshotsOf: number | undefined;
  readonly children: ReadonlyMap<string, TreeNode>;
}

/** A raw view. */
export interface ViewNode extends NodeCommon {
  readonly kind: 'view';
  readonly source: ViewSource;
  readonly size: number;
  readonly writable: boolean;
  /** What it shows changes: by writes to it, or to another view of the same bytes. */
  readonly changes: boolean;
}

/** The live description of one image. */
export interface InfoNode extends NodeCommon {
  readonly kind: 'info';
  readonly image: number;
}

export type TreeNode = DirectoryNode | ViewNode | InfoNode;

export interface Tree {
  /** The directory that is mounted, or the one view where the mountpoint is a file. */
  readonly root: TreeNode;
  readonly nodes: ReadonlyMap<number, TreeNode>;
}

/** The tree of one image, or of several: then each has a directory of its own, and `owner` is whose the top is. */
export function buildTree(images: readonly TreeImage[], owner: Ownership, numbers = new Numbering()): Tree {
  const builder = new Builder(numbers);
  const first = images[0];
  if (first !== undefined && images.length === 1) {
    const root = builder.directory('', first.owner);
    builder.image(root, first, 0);
    return builder.done(root);
  }
  const root = builder.directory('', owner);
  const names = imageDirectories(images.map(({ fileName }) => fileName));
  images.forEach((image, index) => {
    const home = builder.directory(names[index] ?? '', image.owner, root);
    builder.image(home, image, index);
  });
  return builder.done(root);
}

/** The tree where the mountpoint is a regular file: that file is the view. */
export function buildFileTree(image: TreeImage, numbers = new Numbering()): Tree {
  const builder = new Builder(numbers);
  return builder.done(builder.active('', image, 0));
}

/** Numbers nodes from 1, the root first. */
class Builder {
  private readonly nodes = new Map<number, TreeNode>();

  constructor(private readonly numbers: Numbering) {}

  directory(name: string, owner: Ownership, parent?: Growing, snapshotsOf?: number): Growing {
    const children = new Map<string, TreeNode>();
    const mode =
      directoryMode(owner.mode) + (snapshotsOf === undefined ? 0 : writableMode(owner.mode) - readableMode(owner.mode));
    const common = this.common(name, { ...owner, mode }, parent, name);
    return this.add({ ...common, kind: 'directory', snapshotsOf, children }, parent);
  }

  active(name: string, image: TreeImage, index: number, parent?: Growing): TreeNode {
    const { shown } = image;
    return shown === undefined
      ? this.view({ name, owner: image.owner, source: { image: index, kind: 'active' }, size: image.size }, parent, {
          writable: image.writable,
          changes: image.writable,
        })
      : this.view(
          {
            name,
            owner: takenAt(image, shown),
            source: { image: index, kind: 'snapshot', id: shown.id },
            size: shown.diskSize,
          },
          parent,
        );
  }

  image(home: Growing, image: TreeImage, index: number): void {
    this.active('disk.raw', image, index, home);
    if (image.holdsSnapshots) this.snapshots(home, image, index);
    if (image.layers.length > 0) this.layers(home, image, index);
    const owner = { ...image.owner, mode: readableMode(image.owner.mode) };
    this.add({ ...this.common('info.json', owner, home, 'info.json'), kind: 'info', image: index }, home);
  }

  done(root: TreeNode): Tree {
    this.numbers.settle();
    return { root, nodes: this.nodes };
  }

  private snapshots(home: Growing, image: TreeImage, index: number): void {
    const directory = this.directory('snapshots', image.owner, home, image.changesSnapshots ? index : undefined);
    const names = snapshotStems(image.snapshots.map(({ nameBytes }) => nameBytes));
    image.snapshots.forEach((snapshot, n) => {
      const owner = takenAt(image, snapshot);
      const id = snapshot.id;
      const source = { image: index, kind: 'snapshot', id } as const;
      this.view({ name: `${names[n]}.raw`, owner, source, size: snapshot.diskSize }, directory);
      if (snapshot.vmStateSize === 0) return;
      const state = { image: index, kind: 'vmstate', id } as const;
      this.view({ name: `${names[n]}.vmstate`, owner, source: state, size: snapshot.vmStateSize }, directory);
    });
  }

  private layers(home: Growing, image: TreeImage, index: number): void {
    const directory = this.directory('layers', image.owner, home);
    const names = uniqueNames(
      image.layers.map((layer, depth) => `${depth}-${stemOf(layer.fileName)}`),
      '.raw',
    );
    image.layers.forEach((layer, depth) => {
      const source = { image: index, kind: 'layer', depth } as const;
      const top = depth === image.layers.length - 1;
      this.view({ name: names[depth] ?? '', owner: image.owner, source, size: layer.size }, directory, {
        writable: false,
        changes: top && image.writable,
      });
    });
  }

  private view(
    { name, owner, source, size }: Pick<ViewNode, 'name' | 'owner' | 'source' | 'size'>,
    parent: Growing | undefined,
    how: Pick<ViewNode, 'writable' | 'changes'> = { writable: false, changes: false },
  ): TreeNode {
    const mode = how.writable ? writableMode(owner.mode) : readableMode(owner.mode);
    // Not the name: a snapshot that is renamed stays the same file.
    const common = this.common(name, { ...owner, mode }, parent, JSON.stringify(source));
    return this.add({ ...common, kind: 'view', source, size, ...how }, parent);
  }

  /** `key` tells the node from its siblings. */
  private common(name: string, owner: Ownership, parent: Growing | undefined, key: string): NodeCommon {
    return { ino: this.numbers.of(`${parent?.ino ?? 0}/${key}`), name, owner };
  }

  private add<T extends TreeNode>(node: T, parent: Growing | undefined): T {
    this.nodes.set(node.ino, node);
    parent?.children.set(node.name, node);
    return node;
  }
}

/** A directory while it is being filled. */
type Growing = DirectoryNode & { readonly children: Map<string, TreeNode> };

function takenAt(image: TreeImage, snapshot: Snapshot): Ownership {
  return { ...image.owner, mtimeSeconds: snapshot.seconds, mtimeNanoseconds: snapshot.nanoseconds };
}
