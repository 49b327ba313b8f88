/** The disks that are copied: opened, one state of them chosen, known by their files. */

import fs from 'node:fs';
import { identityOf } from '../image/files.js';
import type { Image, ImageInfo, Snapshot } from '../image/image.js';
import { snapshotNamed } from '../image/named-snapshot.js';
import type { OpenedImage } from '../image/open.js';
import type { ImagePlan } from '../image/plan.js';
import { ImgfsError } from '../lib/errors.js';
import { JoinedDisk } from './joined.js';

/** XFS, btrfs and bcachefs, by the numbers of statfs(2). */
const SHARING = new Set([0x58465342, 0x9123683e, 0xca451a4e]);

/** Opened sources. Whoever opened them closes them. */
export class Sources {
  /** All of them, one after the other. */
  readonly disk: JoinedDisk;
  private readonly opened: readonly OpenedImage[];
  private readonly snapshot: Image | undefined;
  private readonly id: string | undefined;

  /** Throws what opening throws, and `missing` where the snapshot is not there; nothing stays open then. */
  constructor(paths: readonly string[], open: (path: string) => OpenedImage, snapshot?: string) {
    const opened: OpenedImage[] = [];
    this.opened = opened;
    try {
      for (const path of paths) opened.push(open(path));
      const [first] = opened;
      if (snapshot !== undefined && first !== undefined) {
        this.id = snapshotMeant(first, snapshot).id;
        this.snapshot = first.image.openSnapshot(this.id);
      }
      this.disk = new JoinedDisk(this.snapshot === undefined ? opened.map(({ image }) => image) : [this.snapshot]);
    } catch (error) {
      this.close();
      throw error;
    }
  }

  /** The files of all of them, what lies below and what they keep their data in included. */
  identities(): ReadonlySet<string> {
    return new Set(this.opened.flatMap(({ plan }) => filesOf(plan)).map((fd) => identityOf(`/proc/self/fd/${fd}`)));
  }

  /** How other threads open the same disks again. */
  plans(): readonly ImagePlan[] {
    return this.opened.map(({ plan }) => ({ ...plan, snapshot: this.id }));
  }

  get first(): OpenedImage | undefined {
    return this.opened[0];
  }

  /** The persistent bitmaps of the first; undefined where its format has none. */
  get bitmaps(): ImageInfo['bitmaps'] {
    return this.opened[0]?.image.info.bitmaps;
  }

  /** Bytes they take on the host, without what lies below. */
  hostBytes(): number {
    return this.opened.reduce((sum, { image }) => sum + image.hostBytes(), 0);
  }

  /** Whether some of their files lie in the file system of that directory, which is one that can have files share blocks. */
  canShareWith(directory: string): boolean {
    if (!SHARING.has(fs.statfsSync(directory).type)) return false;
    const { dev } = fs.statSync(directory);
    return this.opened.flatMap(({ plan }) => filesOf(plan)).some((fd) => fs.fstatSync(fd).dev === dev);
  }

  close(): void {
    this.snapshot?.close();
    for (const { image } of this.opened) image.close();
  }
}

function filesOf({ file, storages, images }: ImagePlan): readonly number[] {
  return [file, ...Object.values(storages)].map(({ fd }) => fd).concat(Object.values(images).flatMap(filesOf));
}

/** qemu-img's two spellings: an id or a name, or `snapshot.id=ID,snapshot.name=NAME`, either of which may be missing. */
function snapshotMeant(opened: OpenedImage, wanted: string): Snapshot {
  if (!/^snapshot\.(?:id|name)=/.test(wanted)) return snapshotNamed(opened, wanted);
  const parts = new Map(wanted.split(',').map((part) => [part.split('=')[0], part.slice(part.indexOf('=') + 1)]));
  const [id, name] = [parts.get('snapshot.id'), parts.get('snapshot.name')];
  const found = opened.image
    .snapshots()
    .find((one) => (id === undefined || one.id === id) && (name === undefined || one.name === name));
  if (found !== undefined && parts.size === Number(id !== undefined) + Number(name !== undefined)) return found;
  throw new ImgfsError('missing', `${opened.file.name} has no snapshot "${wanted}"`);
}
