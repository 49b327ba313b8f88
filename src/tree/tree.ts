/**
 * The mounted tree: which views exist and what they are called. Pure: from a description of opened images to a table
 * of nodes. No I/O, no protocol.
 */
import type { Snapshot } from '../image/image.js';
import { escapeName, stemOf, uniqueNames } from './names.js';

/** Which bytes a view shows. Plain data: it travels to worker threads. */
export type ViewSource = { readonly image: number } & (
  | { readonly kind: 'active' }
  | { readonly kind: 'snapshot'; readonly id: string }
  | { readonly kind: 'vmstate'; readonly id: string }
  /** 0 is the base of the backing chain; the top is the last. */
  | { readonly kind: 'layer'; readonly depth: number }
);

/** Whose a node is and when it last changed. */
export interface Ownership {
  readonly uid: number;
  readonly gid: number;
  /** Permission bits of the image file; 0o777 at most. */
  readonly mode: number;
  readonly mtimeSeconds: number;
  readonly mtimeNanoseconds: number;
}

/** What the tree needs to know of one opened image. */
export interface TreeImage {
  /** The image file's name, without its directory. */
  readonly fileName: string;
  readonly owner: Ownership;
  readonly size: number;
  /** The format can hold snapshots, even if this image has none. */
  readonly holdsSnapshots: boolean;
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
  readonly children: ReadonlyMap<string, TreeNode>;
}

/** A raw view. */
export interface ViewNode extends NodeCommon {
  readonly kind: 'view';
  readonly source: ViewSource;
  readonly size: number;
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

const READ_BITS = [0o400, 0o040, 0o004] as const;

/** Every permission that lets somebody read, without those that let anybody write or execute. */
export function readableMode(mode: number): number {
  return READ_BITS.reduce((kept, bit) => (granted(mode, bit) ? kept + bit : kept), 0);
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
  const kept = (bit: number, allowed: boolean): number => (allowed && granted(own.mode, bit) ? bit : 0);
  return { ...own, mode: kept(user, true) + kept(group, members) + kept(world, everyone) };
}

function granted(mode: number, bit: number): boolean {
  return Math.floor(mode / bit) % 2 === 1;
}

/** The tree of one image, or of several: then each has a directory of its own, and `owner` is whose the top is. */
export function buildTree(images: readonly TreeImage[], owner: Ownership): Tree {
  const builder = new Builder();
  const first = images[0];
  if (first !== undefined && images.length === 1) {
    const root = builder.directory('', first.owner);
    builder.image(root, first, 0);
    return builder.done(root);
  }
  const root = builder.directory('', owner);
  const names = uniqueNames(
    images.map((image) => stemOf(image.fileName)),
    '',
  );
  images.forEach((image, index) => {
    const home = builder.directory(names[index] ?? '', image.owner, root);
    builder.image(home, image, index);
  });
  return builder.done(root);
}

/** The tree where the mountpoint is a regular file: that file is the view. */
export function buildFileTree(image: TreeImage): Tree {
  const builder = new Builder();
  return builder.done(builder.active('', image, 0));
}

/** Numbers nodes from 1, the root first. */
class Builder {
  private readonly nodes = new Map<number, TreeNode>();

  directory(name: string, owner: Ownership, parent?: Growing): Growing {
    const children = new Map<string, TreeNode>();
    const mode = directoryMode(owner.mode);
    return this.add({ ...this.common(name, { ...owner, mode }), kind: 'directory', children }, parent);
  }

  active(name: string, image: TreeImage, index: number, parent?: Growing): TreeNode {
    const { shown } = image;
    return shown === undefined
      ? this.view(name, image.owner, { image: index, kind: 'active' }, image.size, parent)
      : this.view(
          name,
          takenAt(image, shown),
          { image: index, kind: 'snapshot', id: shown.id },
          shown.diskSize,
          parent,
        );
  }

  image(home: Growing, image: TreeImage, index: number): void {
    this.active('disk.raw', image, index, home);
    if (image.holdsSnapshots) this.snapshots(home, image, index);
    if (image.layers.length > 0) this.layers(home, image, index);
    const owner = { ...image.owner, mode: readableMode(image.owner.mode) };
    this.add({ ...this.common('info.json', owner), kind: 'info', image: index }, home);
  }

  done(root: TreeNode): Tree {
    return { root, nodes: this.nodes };
  }

  private snapshots(home: Growing, image: TreeImage, index: number): void {
    const directory = this.directory('snapshots', image.owner, home);
    const escaped = image.snapshots.map((snapshot) => escapeName(snapshot.nameBytes));
    // One base name for both files of a snapshot: the longer extension decides how much fits.
    const names = uniqueNames(escaped, '.vmstate').map((name) => name.slice(0, -'.vmstate'.length));
    image.snapshots.forEach((snapshot, n) => {
      const owner = takenAt(image, snapshot);
      const id = snapshot.id;
      this.view(`${names[n]}.raw`, owner, { image: index, kind: 'snapshot', id }, snapshot.diskSize, directory);
      if (snapshot.vmStateSize === 0) return;
      this.view(`${names[n]}.vmstate`, owner, { image: index, kind: 'vmstate', id }, snapshot.vmStateSize, directory);
    });
  }

  private layers(home: Growing, image: TreeImage, index: number): void {
    const directory = this.directory('layers', image.owner, home);
    const names = uniqueNames(
      image.layers.map((layer, depth) => `${depth}-${stemOf(layer.fileName)}`),
      '.raw',
    );
    image.layers.forEach((layer, depth) => {
      this.view(names[depth] ?? '', image.owner, { image: index, kind: 'layer', depth }, layer.size, directory);
    });
  }

  private view(name: string, owner: Ownership, source: ViewSource, size: number, parent?: Growing): TreeNode {
    const common = this.common(name, { ...owner, mode: readableMode(owner.mode) });
    return this.add({ ...common, kind: 'view', source, size }, parent);
  }

  private common(name: string, owner: Ownership): NodeCommon {
    return { ino: this.nodes.size + 1, name, owner };
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
