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

/** Which text a file shows. */
export type TextSource =
  /** The live description of an image, or of a container. */
  | { readonly kind: 'image'; readonly image: number }
  | { readonly kind: 'container'; readonly home: number }
  /** A container's own document. */
  | { readonly kind: 'descriptor'; readonly home: number };

/** A text, made when it is opened. */
export interface TextNode extends NodeCommon {
  readonly kind: 'text';
  readonly text: TextSource;
}

export type TreeNode = DirectoryNode | ViewNode | TextNode;

export interface Tree {
  /** The directory that is mounted, or the one view where the mountpoint is a file. */
  readonly root: TreeNode;
  readonly nodes: ReadonlyMap<number, TreeNode>;
}

/** A container, with the images in it. */
export interface TreeContainer {
  readonly fileName: string;
  readonly owner: Ownership;
  /** Each has a directory, called by its `fileName`. */
  readonly disks: readonly TreeImage[];
}

/** What its user has named: an image, or a container of images. */
export type TreeHome = TreeImage | TreeContainer;

/** The names that a container's own files have beside the directories of its disks. */
const CONTAINER_FILES = ['info.json', 'appliance.ovf'] as const;

/**
 * The tree of one image or container, or of several: then each has a directory of its own, and `owner` is whose the top
 * is. Views count images in order, those in containers among them.
 */
export function buildTree(homes: readonly TreeHome[], owner: Ownership, numbers = new Numbering()): Tree {
  const builder = new Builder(numbers);
  const [first] = homes;
  const alone = homes.length === 1 && first !== undefined;
  const root = builder.directory('', alone ? first.owner : owner);
  const names = imageDirectories(homes.map(({ fileName }) => fileName));
  let index = 0;
  for (const [n, home] of homes.entries()) {
    const directory = alone ? root : builder.directory(names[n] ?? '', home.owner, root);
    if ('disks' in home) builder.container(directory, home, n, index);
    else builder.image(directory, home, index);
    index += 'disks' in home ? home.disks.length : 1;
  }
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
    this.text('info.json', image.owner, home, { kind: 'image', image: index });
  }

  /** `first` is the number of its first image. */
  container(home: Growing, { owner, disks }: TreeContainer, n: number, first: number): void {
    const stems = disks.map(({ fileName }) => stemOf(fileName));
    const names = uniqueNames([...CONTAINER_FILES, ...stems], '').slice(CONTAINER_FILES.length);
    for (const [index, disk] of disks.entries()) {
      this.image(this.directory(names[index] ?? '', disk.owner, home), disk, first + index);
    }
    const [info, descriptor] = CONTAINER_FILES;
    this.text(descriptor, owner, home, { kind: 'descriptor', home: n });
    this.text(info, owner, home, { kind: 'container', home: n });
  }

  done(root: TreeNode): Tree {
    this.numbers.settle();
    return { root, nodes: this.nodes };
  }

  private text(name: string, { mode, ...owner }: Ownership, home: Growing, text: TextSource): void {
    const common = this.common(name, { ...owner, mode: readableMode(mode) }, home, name);
    this.add({ ...common, kind: 'text', text }, home);
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
