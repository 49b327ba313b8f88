import type {
  Attributes,
  DataServer,
  DirectoryEntry,
  Ino,
  NameServer,
  NodeKind,
  OpenReply,
  Space,
} from '../fuse/adapter.js';
import type { OpenedImage } from '../image/open.js';
import { ImgfsError } from '../lib/errors.js';
import { APPLY } from '../tree/names.js';
import type { TextSource, TreeNode, ViewNode } from '../tree/tree.js';
import { Changes } from './changes.js';
import type { LiveTree } from './live-tree.js';
import { Allocations, freeFor, type Modifications, modified } from './measures.js';
import type { Views } from './views.js';

/** How long the kernel may keep names and attributes of what does not change, in milliseconds. */
const UNCHANGING = 3_600_000;

/** For views that are written: the kernel itself drops what it knows of a file that it writes to. */
const WRITTEN = 1000;

/** For files whose size may differ at the next look. */
const CHANGING = 0;

export interface DeskParts {
  readonly live: LiveTree;
  readonly views: Views;
  readonly image: (index: number) => OpenedImage;
  readonly images: readonly OpenedImage[];
  /** The bytes of a text, made anew at each call. */
  readonly text: (source: TextSource) => Buffer;
  /** A text was opened to be read. */
  readonly consulted: (source: TextSource) => void;
  /** The unit of allocation, for statfs. */
  readonly blockSize: number;
  readonly modifications: Modifications;
  /** Nobody else may change the images meanwhile, so cached pages stay true. */
  readonly keepCache: boolean;
  /** The kernel keeps written pages and sends them later. */
  readonly writebackCache: boolean;
}

/** The front desk: answers every name request, and every data request that no worker can. Main thread only. */
export class FrontDesk implements NameServer, DataServer {
  private readonly allocations: Allocations;
  private readonly texts = new Map<Ino, Buffer>();
  private readonly uses = new Map<Ino, number>();
  private readonly changes: Changes;

  constructor(private readonly parts: DeskParts) {
    this.allocations = new Allocations(parts.modifications);
    this.changes = new Changes({
      live: parts.live,
      image: (index) => parts.image(index).image,
      isOpen: (ino) => this.uses.has(ino),
      forget: (ino) => this.forget(ino),
      sizesStay: parts.writebackCache,
    });
  }

  lookup(parent: Ino, name: string): Ino {
    const node = this.node(parent);
    const child = node.kind === 'directory' ? node.children.get(name) : undefined;
    if (child === undefined) throw new ImgfsError('missing', `there is no "${name}"`);
    return child.ino;
  }

  attributes(ino: Ino): Attributes {
    const node = this.node(ino);
    const { mode, uid, gid, mtimeSeconds, mtimeNanoseconds } = node.owner;
    return {
      ino,
      kind: kindOf(node),
      mode,
      uid,
      gid,
      links: node.kind === 'directory' ? 2 + directoriesIn(node.children.values()) : 1,
      mtimeSeconds,
      mtimeNanoseconds,
      ...this.measure(node),
    };
  }

  entries(directory: Ino): readonly DirectoryEntry[] {
    const node = this.node(directory);
    if (node.kind !== 'directory') throw new ImgfsError('missing', `"${node.name}" is not a directory`);
    return Array.from(node.children.values(), (child) => ({ ino: child.ino, name: child.name, kind: kindOf(child) }));
  }

  open(ino: Ino, writable: boolean): OpenReply {
    const node = this.node(ino);
    if (writable && !(node.kind === 'view' && node.writable)) {
      throw new ImgfsError('read-only', `"${node.name}" is read-only`);
    }
    this.uses.set(ino, (this.uses.get(ino) ?? 0) + 1);
    if (node.kind === 'view') {
      // Pages of what is written through another view would become untrue.
      const directIo = node.changes && !node.writable;
      return { keepCache: this.parts.keepCache && !directIo, directIo };
    }
    if (node.kind === 'text') {
      this.parts.consulted(node.text);
      this.texts.set(ino, this.parts.text(node.text));
    }
    return { keepCache: false, directIo: true };
  }

  release(ino: Ino): void {
    const uses = this.uses.get(ino) ?? 0;
    if (uses > 1) this.uses.set(ino, uses - 1);
    else this.uses.delete(ino);
  }

  /** What is free on the host counts where something can be written, but never as more than the disks could take. */
  space(): Space {
    const total = this.parts.images.reduce((sum, { image }) => sum + image.size, 0);
    const written = this.parts.images.filter(({ image }) => image.writable);
    const free = Math.min(total, ...written.map(({ file }) => freeFor(file)));
    const files = this.parts.live.nodes.size;
    return { blockSize: this.parts.blockSize, total, free: written.length === 0 ? 0 : free, files };
  }

  resize(ino: Ino, size: number): void {
    this.changes.resize(ino, size);
  }

  create(parent: Ino, name: string): Ino {
    const ino = this.changes.create(parent, name);
    this.uses.set(ino, 1);
    return ino;
  }

  remove(parent: Ino, name: string): void {
    this.changes.remove(parent, name);
  }

  rename(parent: Ino, name: string, newParent: Ino, newName: string): void {
    this.changes.rename(parent, name, newParent, newName);
  }

  setExtended(ino: Ino, name: string, value: Uint8Array): readonly Ino[] {
    if (name !== APPLY) throw new ImgfsError('unsupported', `an attribute "${name}" cannot be set`);
    return this.changes.apply(ino, Buffer.from(value).toString());
  }

  serves(ino: Ino): boolean {
    return this.parts.live.nodes.has(ino);
  }

  read(ino: Ino, into: Uint8Array, at: number): number {
    const node = this.node(ino);
    if (node.kind === 'view') return this.parts.views.read(ino, into, at);
    const text = this.texts.get(ino);
    if (text === undefined) throw new ImgfsError('missing', `"${node.name}" is not open`);
    return at >= text.length ? 0 : text.copy(into, 0, at);
  }

  seek(ino: Ino, at: number, want: 'data' | 'hole'): number | undefined {
    const node = this.node(ino);
    if (node.kind === 'view') return this.parts.views.seek(ino, at, want);
    const { size } = this.measure(node);
    if (at >= size) return undefined;
    return want === 'data' ? at : size;
  }

  write(ino: Ino, from: Uint8Array, at: number): number {
    return this.parts.views.write(this.view(ino), from, at);
  }

  zero(ino: Ino, at: number, length: number, options: { readonly unmap: boolean }): number {
    return this.parts.views.zero(this.view(ino), at, length, options);
  }

  flush(ino: Ino): void {
    if (this.node(ino).kind === 'view') this.parts.views.flush(ino);
  }

  verify(ino: Ino): void {
    if (this.node(ino).kind === 'view') this.parts.views.verify(ino);
  }

  private view(ino: Ino): Ino {
    const node = this.node(ino);
    if (node.kind !== 'view') throw new ImgfsError('read-only', `"${node.name}" cannot be written`);
    return ino;
  }

  private node(ino: Ino): TreeNode {
    const node = this.parts.live.nodes.get(ino);
    if (node === undefined) throw new ImgfsError('missing', `there is no file ${ino}`);
    return node;
  }

  private measure(node: TreeNode): Pick<Attributes, 'size' | 'allocated' | 'blockSize' | 'validMs'> {
    if (node.kind === 'directory') return { size: 4096, allocated: 4096, blockSize: 4096, validMs: UNCHANGING };
    if (node.kind === 'view') return this.measureView(node);
    const size = this.parts.text(node.text).length;
    return { size, allocated: size, blockSize: 4096, validMs: CHANGING };
  }

  private measureView({ ino, size, changes, source }: ViewNode): ReturnType<FrontDesk['measure']> {
    const allocated = this.allocations.of(ino, changes, () => this.parts.views.view(ino));
    const { blockSize } = this.parts;
    if (!changes) return { size, allocated, blockSize, validMs: UNCHANGING };
    return { size, allocated, blockSize, validMs: WRITTEN, ...modified(this.parts.image(source.image).file) };
  }

  private forget(ino: Ino): void {
    this.allocations.forget(ino);
    this.parts.views.forget(ino);
  }
}

function kindOf(node: TreeNode): NodeKind {
  return node.kind === 'directory' ? 'directory' : 'file';
}

function directoriesIn(nodes: Iterable<TreeNode>): number {
  let count = 0;
  for (const node of nodes) if (node.kind === 'directory') count++;
  return count;
}
