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
import { readOnlyNames } from '../fuse/read-only.js';
import { allocatedBytes } from '../image/allocated.js';
import { ImgfsError } from '../lib/errors.js';
import type { Tree, TreeNode } from '../tree/tree.js';
import type { Views } from './views.js';

/** How long the kernel may keep names and attributes of a tree that does not change, in milliseconds. */
const UNCHANGING = 3_600_000;

/** For files whose size may differ at the next look. */
const CHANGING = 0;

export interface DeskParts {
  readonly tree: Tree;
  readonly views: Views;
  /** The text of an image's info.json, made anew at each call. */
  readonly info: (image: number) => string;
  /** Sum of the guest sizes and the unit of allocation, for statfs. */
  readonly total: number;
  readonly blockSize: number;
  /** Nobody else may change the images meanwhile, so cached pages stay true. */
  readonly keepCache: boolean;
}

/** The front desk: answers every name request, and every data request that no worker can. Main thread only. */
export class FrontDesk implements NameServer, DataServer {
  private readonly allocated = new Map<Ino, number>();
  private readonly infoTexts = new Map<Ino, Buffer>();

  constructor(private readonly parts: DeskParts) {}

  lookup(parent: Ino, name: string): Ino {
    const node = this.node(parent);
    const child = node.kind === 'directory' ? node.children.get(name) : undefined;
    if (child === undefined) throw new ImgfsError('missing', `there is no "${name}"`);
    return child.ino;
  }

  attributes(ino: Ino): Attributes {
    const node = this.node(ino);
    const { size, allocated, blockSize, validMs } = this.measure(node);
    return {
      ino,
      kind: kindOf(node),
      mode: node.owner.mode,
      uid: node.owner.uid,
      gid: node.owner.gid,
      links: node.kind === 'directory' ? 2 + directoriesIn(node.children.values()) : 1,
      size,
      allocated,
      blockSize,
      mtimeSeconds: node.owner.mtimeSeconds,
      mtimeNanoseconds: node.owner.mtimeNanoseconds,
      validMs,
    };
  }

  entries(directory: Ino): readonly DirectoryEntry[] {
    const node = this.node(directory);
    if (node.kind !== 'directory') throw new ImgfsError('missing', `"${node.name}" is not a directory`);
    return Array.from(node.children.values(), (child) => ({ ino: child.ino, name: child.name, kind: kindOf(child) }));
  }

  open(ino: Ino, writable: boolean): OpenReply {
    const node = this.node(ino);
    if (writable) throw new ImgfsError('read-only', `"${node.name}" is read-only`);
    if (node.kind !== 'info') return { keepCache: this.parts.keepCache, directIo: false };
    this.infoTexts.set(ino, Buffer.from(this.parts.info(node.image)));
    return { keepCache: false, directIo: true };
  }

  release(): void {}

  readonly resize = readOnlyNames.resize;
  readonly create = readOnlyNames.create;
  readonly remove = readOnlyNames.remove;
  readonly rename = readOnlyNames.rename;

  space(): Space {
    return { blockSize: this.parts.blockSize, total: this.parts.total, free: 0, files: this.parts.tree.nodes.size };
  }

  serves(ino: Ino): boolean {
    return this.parts.tree.nodes.has(ino);
  }

  read(ino: Ino, into: Uint8Array, at: number): number {
    const node = this.node(ino);
    if (node.kind === 'view') return this.parts.views.read(ino, into, at);
    const text = this.infoTexts.get(ino);
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
    return this.parts.views.write(this.viewAt(ino), from, at);
  }

  zero(ino: Ino, at: number, length: number, options: { readonly unmap: boolean }): number {
    return this.parts.views.zero(this.viewAt(ino), at, length, options);
  }

  flush(ino: Ino): void {
    if (this.node(ino).kind === 'view') this.parts.views.flush(ino);
  }

  verify(ino: Ino): void {
    if (this.node(ino).kind === 'view') this.parts.views.verify(ino);
  }

  private viewAt(ino: Ino): Ino {
    const node = this.node(ino);
    if (node.kind !== 'view') throw new ImgfsError('read-only', `"${node.name}" cannot be written`);
    return ino;
  }

  private node(ino: Ino): TreeNode {
    const node = this.parts.tree.nodes.get(ino);
    if (node === undefined) throw new ImgfsError('missing', `there is no file ${ino}`);
    return node;
  }

  private measure(node: TreeNode): { size: number; allocated: number; blockSize: number; validMs: number } {
    const { blockSize } = this.parts;
    if (node.kind === 'directory') return { size: 4096, allocated: 4096, blockSize: 4096, validMs: UNCHANGING };
    if (node.kind === 'view') {
      return { size: node.size, allocated: this.stored(node.ino), blockSize, validMs: UNCHANGING };
    }
    const size = Buffer.byteLength(this.parts.info(node.image));
    return { size, allocated: size, blockSize: 4096, validMs: CHANGING };
  }

  /** Counted once per view. A view that cannot be opened has no blocks; opening and reading it says why. */
  private stored(ino: Ino): number {
    let bytes = this.allocated.get(ino);
    if (bytes === undefined) {
      try {
        bytes = allocatedBytes(this.parts.views.view(ino));
      } catch (error) {
        if (!(error instanceof ImgfsError)) throw error;
        bytes = 0;
      }
      this.allocated.set(ino, bytes);
    }
    return bytes;
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
