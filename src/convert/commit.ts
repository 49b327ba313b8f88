/** Writing what a disk holds above one of its layers into that layer. */
import type { Extent, Image } from '../image/image.js';
import { roundUp } from '../lib/bits.js';
import { ImgfsError } from '../lib/errors.js';
import { copyDisk } from './copy.js';
import type { ReadDisk } from './joined.js';
import { paced } from './paced.js';
import { SECTOR } from './side.js';

export interface Commit {
  /** The disk; it is changed at the very end only. */
  readonly top: Image;
  /** One of the layers below it, open for writing. */
  readonly base: Image;
  /** How far below: 1 is what lies directly below. */
  readonly depth: number;
  /** Whether `top` shall hold nothing afterwards. Never where other layers lie between: they show garbage by then. */
  readonly empty: boolean;
  /** At most so many bytes are copied in a second. */
  readonly rate?: number | undefined;
}

/** So many zeros at once become zeros of the base, in units of it. */
const SPARSE = 4096;

/**
 * Copies into the base what the layers above it hold, then empties the top. A step at a time: yields guest bytes that
 * are done; whoever stops asking has stopped it.
 *
 * Whenever it ends, killed or failed or without power, the top reads as before. Of the base only ranges are written
 * that a layer above it decides, so that no reader of the top sees them; what shares a cluster with them is kept by
 * the base's own order of writes. A base that is too short reads as zeros beyond its end, and so does what it gains.
 * Before the top gives up anything, all of that is durable in the base; then both hold the same, and it makes no
 * difference how much of the top is gone. Nothing orders writes of the two files but that one barrier.
 *
 * Throws what reading and writing throw, `unsupported` where the base cannot grow.
 */
export function* commitDisk(commit: Commit): Generator<number> {
  const { top, base, empty, rate } = commit;
  assertCanFollow(commit);
  grow(commit);
  const options = {
    targetIsZero: false,
    topLayer: true,
    sparse: SPARSE,
    byHost: false,
    pack: false,
    outOfOrder: false,
  };
  const above = new Above(commit);
  yield* paced(copyDisk(above, base, options), () => above.bytesRead, rate);
  base.flush();
  if (!empty) return;
  try {
    top.empty();
  } catch (error) {
    // What a format that cannot be emptied holds is what lies below.
    if (!(error instanceof ImgfsError) || error.reason !== 'unsupported') throw error;
  }
}

/**
 * Formats whose images know the state of what lies below them (by its id or date) refuse it once it was written: they
 * would be lost by what shall keep them.
 */
function assertCanFollow({ top, empty }: Commit): void {
  const { format, specific } = top.info;
  const layout = specific?.data.layout;
  const pins = format === 'vmdk' || format === 'vdi' || (typeof layout === 'string' && layout.startsWith('uml'));
  if (!pins || !empty) return;
  throw new ImgfsError('unsupported', `${format} images do not open any more once what lies below them was written`, {
    hint: 'with -d the image is not kept: only what lies below it is of use then',
  });
}

/** The base is made as large as the top, but for what it lacks of its last sector, where nothing is to be put there. */
function grow({ top, base, depth }: Commit): void {
  if (base.size >= top.size) return;
  if (roundUp(base.size, SECTOR) >= top.size && top.extent(base.size, top.size - base.size).depth >= depth) return;
  base.resize(base.info.format === 'raw' ? top.size : roundUp(top.size, SECTOR));
}

/** The top as a layer above the base: whatever lies between belongs to it. */
class Above implements ReadDisk {
  bytesRead = 0;

  constructor(private readonly commit: Commit) {}

  get size(): number {
    return this.commit.top.size;
  }

  extent(at: number, length: number): Extent {
    const extent = this.commit.top.extent(at, length);
    return { ...extent, depth: extent.depth < this.commit.depth ? 0 : 1 };
  }

  read(into: Uint8Array, at: number): void {
    this.commit.top.read(into, at);
    this.bytesRead += into.length;
  }
}
