/**
 * From options to something that can be served: images opened, tree built, front desk and worker plan ready. Nothing
 * here knows of FUSE beyond the seam.
 */
import { basename } from 'node:path';
import { codecsNeedPreparing } from '../codec/zstd.js';
import { formats } from '../formats/index.js';
import type { NodeKind, Served } from '../fuse/adapter.js';
import { describeImage, infoJson } from '../image/describe.js';
import type { HostFile } from '../image/files.js';
import type { Image } from '../image/image.js';
import type { Passphrases } from '../image/keys.js';
import type { OpenedImage } from '../image/open.js';
import { formatNamed } from '../image/probe.js';
import { ImgfsError } from '../lib/errors.js';
import { type Ownership, sharedOwner } from '../tree/modes.js';
import { Numbering } from '../tree/numbering.js';
import { buildFileTree, buildTree, type Tree, type TreeHome, type TreeImage } from '../tree/tree.js';
import { ContainerTexts } from './container-texts.js';
import { FrontDesk } from './desk.js';
import { LiveTree } from './live-tree.js';
import { Modifications } from './measures.js';
import { NewsSender } from './news.js';
import { type MountedHome, type MountedImage, openHomes } from './opening.js';
import { CACHES, type MountOptions } from './options.js';
import { chainOf, Views } from './views.js';
import type { DataJob } from './worker.js';

/** The images of one mount, open. Whoever asked for them closes them, after the mount has ended. */
export interface OpenedMount {
  /** The files that were named, in order. */
  readonly named: readonly HostFile[];
  readonly images: readonly MountedImage[];
  /** Something of it can be written. */
  readonly writable: boolean;
  /** What goes to the adapter, once it is known what kind of mountpoint there is. */
  serve(mountpoint: NodeKind): Served;
  /** To be called about once a second while it is served. Throws ImgfsError. */
  publish(): void;
  /** A thread died that may have held the images' lock: `close` will touch nothing. */
  abandon(): void;
  /** Returns when all that was written is durable. Closes everything, whatever fails, and then throws ImgfsError. */
  close(): void;
}

/** Data workers where nothing is written, and where something is: see native-notes/. */
const READING_WORKERS = 4;
const WRITING_WORKERS = 1;

/** Opens every image of the options. Throws ImgfsError, having closed what it had opened. */
export function openMount(
  options: MountOptions,
  passphrases: Passphrases,
  warn: (message: string) => void,
): OpenedMount {
  const homes = openHomes(options, passphrases, warn);
  const images = homes.flatMap((home) => home.images);
  const writable = images.some(({ image }) => image.writable);
  const ends: (() => void)[] = images.flatMap((opened) => [
    () => assertNothingLost(opened.image),
    () => opened.close(),
  ]);
  const containers = homes.map(({ container }) => container && new ContainerTexts(container));
  for (const one of containers) if (one !== undefined) ends.push(() => one.close());
  const close = (): void => closeAll(ends);
  try {
    const describe = (): readonly TreeHome[] => homes.map(describeHome);
    describe();
    return {
      named: homes.map(({ named }) => named),
      images,
      writable,
      serve: (mountpoint) => {
        const numbers = new Numbering();
        const news = writable ? new NewsSender(`imgfs-${process.pid}`) : undefined;
        if (news !== undefined) ends.unshift(() => news.close());
        const live = new LiveTree(
          () => plant(describe(), mountpoint, numbers),
          (ino, source) => news?.send(ino, source),
        );
        return serve({ images, containers, live, news: news?.name, options });
      },
      publish() {
        for (const { image } of images) if (image.writable) image.publish();
      },
      abandon() {
        ends.length = 0;
      },
      close,
    };
  } catch (error) {
    close();
    throw error;
  }
}

interface ServeParts {
  readonly images: readonly OpenedImage[];
  /** By the number of what was named. */
  readonly containers: readonly (ContainerTexts | undefined)[];
  readonly live: LiveTree;
  readonly news: string | undefined;
  readonly options: MountOptions;
}

function serve({ images, containers, live, news, options }: ServeParts): Served {
  const image = (index: number): OpenedImage => images[index] as OpenedImage;
  const { through, direct } = CACHES[options.cache];
  const { sources } = live;
  const modifications = new Modifications();
  const desk = new FrontDesk({
    live,
    views: new Views({ sources, openImage: (index) => image(index).image, through, modifications }),
    modifications,
    image,
    images,
    text: (source) =>
      source.kind === 'image'
        ? Buffer.from(infoJson(describeImage(image(source.image))))
        : (containers[source.home]?.text(source.kind) ?? Buffer.alloc(0)),
    consulted: (source) => {
      if (source.kind === 'container') containers[source.home]?.startVerifying();
    },
    blockSize: Math.max(512, ...images.map((opened) => opened.image.blockSize)),
    keepCache: !options.forceShare,
    writebackCache: options.writebackCache,
  });
  const writing = images.some((opened) => opened.image.writable);
  const plans = images.map((opened) => opened.plan);
  const job: DataJob = {
    plans,
    sources,
    prepareCodecs: codecsNeedPreparing(),
    news,
    through,
    modifications: modifications.buffer,
  };
  const module = new URL('./worker.js', import.meta.url).href;
  // Parts of blocks are written by reading, changing and writing the whole: not for two at a time.
  const most = writing && direct ? 1 : Number.POSITIVE_INFINITY;
  const count = Math.min(most, options.workers ?? (writing ? WRITING_WORKERS : READING_WORKERS));
  return { names: desk, data: desk, workers: { module, job, count, vital: writing } };
}

/** Closing a damaged image touches nothing, and so has nothing to complain of: what was lost before is told here. */
function assertNothingLost(image: Image): void {
  if (image.writable) image.overwrite(new Uint8Array(), 0);
}

/** Calls all, whatever fails, and throws the first failure. */
function closeAll(ends: readonly (() => void)[]): void {
  let failure: { readonly error: unknown } | undefined;
  for (const end of ends) {
    try {
      end();
    } catch (error) {
      failure ??= { error };
    }
  }
  if (failure !== undefined) throw failure.error;
}

function plant(homes: readonly TreeHome[], mountpoint: NodeKind, numbers: Numbering): Tree {
  if (mountpoint === 'directory') return buildTree(homes, MOUNTER, numbers);
  const images = homes.flatMap((home) => ('disks' in home ? home.disks : [home]));
  const only = images[0];
  if (only === undefined || images.length > 1) {
    throw new ImgfsError('usage', 'a file as mountpoint can show one image only', { hint: 'mount on a directory' });
  }
  return buildFileTree(only, numbers);
}

function describeHome({ named, container, images }: MountedHome): TreeHome {
  const trees = images.map(describeForTree);
  const [only] = trees;
  if (container === undefined && only !== undefined) return only;
  const disks = trees.map((tree, n) => ({ ...tree, fileName: container?.container.disks[n]?.name ?? '' }));
  return { fileName: basename(named.path), owner: named, disks };
}

function describeForTree(opened: MountedImage): TreeImage {
  const { image, file, chain, named, shown } = opened;
  const format = formatNamed(formats, image.info.format);
  const snapshots = image.snapshots();
  const sizes = chainOf(image).map((layer) => layer.size);
  const files = chain.toReversed();
  return {
    fileName: basename(named.path),
    owner: sharedOwner([opened.container ?? file, ...chain]),
    size: image.size,
    writable: image.writable,
    changesSnapshots: image.writable && format.kind === 'image' && format.can.snapshots,
    holdsSnapshots: format.kind === 'image' && format.can.snapshots,
    snapshots,
    shown,
    layers:
      sizes.length < 2 ? [] : sizes.map((size, depth) => ({ fileName: basename(files[depth]?.path ?? ''), size })),
  };
}

/** Whose the directory over several images is. */
const MOUNTER = mounter();

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
