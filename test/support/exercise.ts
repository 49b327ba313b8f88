/** Uses an image as a mount would, and holds it to the rule: an ImgfsError, or an answer; soon; within its memory. */
import { expect } from 'chai';
import type { ImageFormat } from '../../src/image/format.js';
import type { Image } from '../../src/image/image.js';
import type { SampleFile } from '../../src/image/samples.js';
import { ImgfsError, type Reason } from '../../src/lib/errors.js';
import { MemoryStorage } from '../../src/storage/memory.js';
import { sampleContext } from './samples.js';
import type { Random } from './seed.js';

export interface Exercise {
  readonly reads: number;
  /** Extents asked for at most: a hostile map may have more than anybody can wait for. */
  readonly extents: number;
  readonly random: Random;
  /** What the image names. */
  readonly beside?: readonly SampleFile[] | undefined;
}

export interface Outcome {
  /** Why it would not open; undefined where it did. */
  readonly refused?: Reason;
  readonly message?: string;
  readonly milliseconds: number;
}

/** How long anything may take on a busy machine; the rule is 2 s. */
export const PATIENCE = 2000;

/** Runs `action`; an ImgfsError is an answer, anything else a bug that passes through. */
function tried(action: () => void): ImgfsError | undefined {
  try {
    action();
  } catch (error) {
    if (error instanceof ImgfsError) return error;
    throw error;
  }
  return undefined;
}

/** Opens `bytes` as `format`, looks everywhere and closes. `inspect` sees the open image before anything else. */
export function exercise(
  format: ImageFormat,
  bytes: Uint8Array,
  how: Exercise,
  inspect: (image: Image) => void = () => {},
): Outcome {
  const started = performance.now();
  let image: Image | undefined;
  const error = tried(() => {
    image = format.open(MemoryStorage.from(bytes, 'image'), sampleContext(how.beside));
  });
  if (image !== undefined) {
    inspect(image);
    lookAt(image, how);
    tried(() => void image?.info.specific);
    const snapshots = tried(() => void image?.snapshots()) === undefined ? image.snapshots() : [];
    for (const { id } of snapshots.slice(0, 3)) {
      for (const open of [(of: Image) => of.openSnapshot(id), (of: Image) => of.openVmState(id)]) {
        tried(() => {
          const past = open(image as Image);
          lookAt(past, { ...how, reads: Math.ceil(how.reads / 10), extents: Math.ceil(how.extents / 10) });
          past.close();
        });
      }
    }
    image.close();
    image.close();
  }
  const milliseconds = performance.now() - started;
  expect(milliseconds, 'time').to.be.lessThan(PATIENCE);
  return error === undefined ? { milliseconds } : { milliseconds, refused: error.reason, message: error.message };
}

function lookAt(image: Image, how: Exercise): void {
  walkExtents(image, how.extents);
  const { size } = image;
  if (size === 0) return;
  for (let n = 0; n < how.reads; n++) {
    const at = n === 0 ? 0 : n === 1 ? Math.max(0, size - 512) : how.random.below(size);
    const into = new Uint8Array(Math.min(size - at, 1 + how.random.below(how.random.below(8) === 0 ? 200_000 : 5000)));
    tried(() => image.read(into, at));
  }
}

/** Extents tile, and agree with what is read there; a damaged one is stepped over. */
function walkExtents(image: Image, most: number): void {
  let at = 0;
  for (let n = 0; n < most && at < image.size; n++) {
    let step = image.blockSize - (at % image.blockSize);
    tried(() => {
      const extent = image.extent(at, image.size - at);
      expect(extent.start).to.equal(at);
      expect(extent.length).to.be.within(1, image.size - at);
      step = extent.length;
      agree(image, at, Math.min(extent.length, 8192), extent);
    });
    at += step;
  }
}

function agree(image: Image, at: number, length: number, extent: ReturnType<Image['extent']>): void {
  const read = new Uint8Array(length);
  if (tried(() => image.read(read, at)) !== undefined) return;
  if (extent.zero)
    expect(
      read.every((byte) => byte === 0),
      `zero extent at ${at}`,
    ).to.equal(true);
  if (extent.data && !extent.zero && extent.storage !== undefined && extent.offset !== undefined) {
    const stored = new Uint8Array(length);
    extent.storage.read(stored, extent.offset);
    expect(Buffer.compare(read, stored), `data extent at ${at}`).to.equal(0);
  }
}
