/**
 * From options to something that can be served: images opened, tree built, front desk and worker plan ready. Nothing
 * here knows of FUSE beyond the seam.
 */
import { basename } from 'node:path';
import { codecsNeedPreparing } from '../codec/zstd.js';
import { formats } from '../formats/index.js';
import type { Ino, NodeKind, Served } from '../fuse/adapter.js';
import { describeImage, infoJson } from '../image/describe.js';
import type { Snapshot } from '../image/image.js';
import { type OpenedImage, openImage } from '../image/open.js';
import { formatNamed } from '../image/probe.js';
import { ImgfsError } from '../lib/errors.js';
import {
  buildFileTree,
  buildTree,
  type Ownership,
  sharedOwner,
  type Tree,
  type TreeImage,
  type ViewSource,
} from '../tree/tree.js';
import { FrontDesk } from './desk.js';
import type { MountOptions } from './options.js';
import { chainOf, Views } from './views.js';
import type { DataJob } from './worker.js';

/** The images of one mount, open. Whoever asked for them closes them, after the mount has ended. */
export interface OpenedMount {
  readonly images: readonly OpenedImage[];
  /** What goes to the adapter, once it is known what kind of mountpoint there is. */
  serve(mountpoint: NodeKind): Served;
  close(): void;
}

/** Opens every image of the options. Throws ImgfsError, having closed what it had opened. */
export function openMount(options: MountOptions, warn: (message: string) => void): OpenedMount {
  const images: OpenedImage[] = [];
  const close = (): void => {
    for (const opened of images) opened.image.close();
  };
  try {
    for (const path of options.images) {
      images.push(
        openImage(path, {
          formats,
          format: options.format,
          references: { follow: !options.noRefs, allowed: options.allowRefs },
          forceShare: options.forceShare,
          warn,
        }),
      );
    }
    const trees = images.map((opened) => describeForTree(opened, options.snapshot));
    return { images, serve: (mountpoint) => serve(images, trees, mountpoint, options), close };
  } catch (error) {
    close();
    throw error;
  }
}

function serve(
  images: readonly OpenedImage[],
  trees: readonly TreeImage[],
  mountpoint: NodeKind,
  options: MountOptions,
): Served {
  const tree = plant(trees, mountpoint);
  const sources = new Map<Ino, ViewSource>();
  for (const node of tree.nodes.values()) if (node.kind === 'view') sources.set(node.ino, node.source);
  const image = (index: number): OpenedImage => images[index] as OpenedImage;
  const desk = new FrontDesk({
    tree,
    views: new Views(sources, (index) => image(index).image),
    info: (index) => infoJson(describeImage(image(index))),
    total: trees.reduce((sum, one) => sum + one.size, 0),
    blockSize: Math.max(512, ...images.map((opened) => opened.image.blockSize)),
    keepCache: !options.forceShare,
  });
  const job: DataJob = { plans: images.map((opened) => opened.plan), sources, prepareCodecs: codecsNeedPreparing() };
  const module = new URL('./worker.js', import.meta.url).href;
  return { names: desk, data: desk, workers: { module, job, count: options.workers } };
}

function plant(trees: readonly TreeImage[], mountpoint: NodeKind): Tree {
  if (mountpoint === 'directory') return buildTree(trees, mounter());
  const only = trees[0];
  if (only === undefined || trees.length > 1) {
    throw new ImgfsError('usage', 'a file as mountpoint can show one image only', { hint: 'mount on a directory' });
  }
  return buildFileTree(only);
}

function describeForTree(opened: OpenedImage, snapshot: string | undefined): TreeImage {
  const { image, file, chain } = opened;
  const format = formatNamed(formats, image.info.format);
  const snapshots = image.snapshots();
  const sizes = chainOf(image).map((layer) => layer.size);
  const files = chain.toReversed();
  return {
    fileName: basename(file.path),
    owner: sharedOwner([file, ...chain.slice(1)]),
    size: image.size,
    holdsSnapshots: format.kind === 'image' && format.can.snapshots,
    snapshots,
    shown: snapshot === undefined ? undefined : snapshotNamed(snapshots, snapshot, file.name),
    layers:
      sizes.length < 2 ? [] : sizes.map((size, depth) => ({ fileName: basename(files[depth]?.path ?? ''), size })),
  };
}

/** By id first, then by name, as qemu-img does. */
function snapshotNamed(snapshots: readonly Snapshot[], wanted: string, name: string): Snapshot {
  const found = snapshots.find(({ id }) => id === wanted) ?? snapshots.find((one) => one.name === wanted);
  if (found !== undefined) return found;
  const names = snapshots.map((one) => `"${one.name}"`).join(', ');
  throw new ImgfsError('missing', `${name} has no snapshot "${wanted}"`, {
    hint: names === '' ? 'it has none at all' : `it has ${names}`,
  });
}

function mounter(): Ownership {
  const now = Date.now();
  return {
    uid: process.getuid?.() ?? 0,
    gid: process.getgid?.() ?? 0,
    mode: 0o444,
    mtimeSeconds: Math.floor(now / 1000),
    mtimeNanoseconds: (now % 1000) * 1_000_000,
  };
}
