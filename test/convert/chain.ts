/** Chains of images in memory, for tests of what changes several files: every state that a crash may leave is read. */
import type { ImageFormat, Reference } from '../../src/image/format.js';
import type { Image } from '../../src/image/image.js';
import { DEFAULT_LIMITS } from '../../src/image/limits.js';
import { ImgfsError } from '../../src/lib/errors.js';
import { Faults, NO_FAULT } from '../../src/storage/faults.js';
import { Journal } from '../../src/storage/journal.js';
import type { MemoryStorage } from '../../src/storage/memory.js';
import type { Storage } from '../../src/storage/storage.js';
import { imageFormat, Rig } from '../crash/rig.js';
import { CrashStates } from '../crash/states.js';
import { structureCheck } from '../crash/structure.js';
import { makeImage, type Wishes } from '../support/creation.js';
import { readAll } from '../support/images.js';
import { Random, SEED } from '../support/seed.js';

/** One file: how the image above names it, what it is, and its bytes. */
export interface Link {
  readonly name: string;
  readonly format: string;
  readonly storage: MemoryStorage;
}

/** A new image over those in `below`, the nearest first. */
export function link(name: string, format: string, below: readonly Link[], wishes: Wishes = {}): Link {
  const [next] = below;
  const image = next && new Chain(below).open(storagesOf(below), []);
  const backing = next && { name: next.name, format: next.format, image, modified: 0 };
  const { storage } = makeImage(imageFormat(format), { fileName: name, backing, ...wishes });
  image?.close();
  return { name, format, storage };
}

export function storagesOf(links: readonly Link[]): readonly MemoryStorage[] {
  return links.map(({ storage }) => storage);
}

/** Files, the first of which is the image. References are followed among them by name. */
export class Chain {
  constructor(readonly links: readonly Link[]) {}

  /** `writable` are the numbers of the files that may be written. The storages stay the caller's. */
  open(storages: readonly Storage[], writable: readonly number[], n = 0): Image {
    const [file, storage] = [this.links[n], storages[n]];
    if (file === undefined || storage === undefined) throw new Error(`there is no file ${n}`);
    return formatOf(file).open(storage, {
      writable: writable.includes(n),
      limits: DEFAULT_LIMITS,
      openStorage: ({ name }) => {
        throw new Error(`nobody has ${name}`);
      },
      openImage: ({ name }: Reference) =>
        this.open(
          storages,
          writable,
          this.links.findIndex((other) => other.name === name),
        ),
    });
  }

  read(storages: readonly Storage[]): Buffer {
    const image = this.open(storages, []);
    try {
      return readAll(image);
    } finally {
      image.close();
    }
  }

  /** Writes to the disk as it is made. */
  write(n: number, body: (image: Image) => void): void {
    const image = this.open(storagesOf(this.links), [n], n);
    body(image);
    image.close();
  }

  /** What is wrong in files; leaks are not. */
  corruptions(storages: readonly MemoryStorage[]): readonly string[] {
    return this.links.flatMap((file, n) => {
      const rig = new Rig(formatOf(file), [
        { ...file, role: 'image' },
        ...this.links.slice(n + 1).map((other) => ({ ...other, role: 'base' as const })),
      ]);
      return structureCheck(rig)(rig, storages.slice(n)).corruptions.map((what) => `${file.name}: ${what}`);
    });
  }
}

function formatOf(file: Link): ImageFormat {
  return imageFormat(file.format);
}

/** What a chain is made of, its top first. */
export interface Recipe {
  readonly formats: readonly string[];
  readonly sizes?: readonly number[];
  readonly values?: Readonly<Record<string, string | number>>;
}

/** A chain whose layers all hold something, zeros among it. */
export function chainOf({ formats, sizes = [], values = {} }: Recipe, random: Random): Chain {
  let links: readonly Link[] = [];
  for (let n = formats.length - 1; n >= 0; n--) {
    const format = formats[n] ?? '';
    const size = sizes[Math.min(n, sizes.length - 1)] ?? 64 * 1024;
    const wishes = { size, values: format === 'qcow2' ? values : {} };
    links = [link(`${n}.${format}`, format, links, wishes), ...links];
    const chain = new Chain(links);
    chain.write(0, (image) => {
      for (let k = 0; k < 4; k++) {
        const at = random.below(image.size - 8 * 1024);
        image.write(random.bytes(512 + random.below(7 * 1024)), at);
      }
      const at = random.below(image.size / 512 - 16) * 512;
      image.zero(at, 8 * 1024, { unmap: true });
    });
  }
  return new Chain(links);
}

export interface Change {
  readonly chain: Chain;
  /** The files it writes. */
  readonly writable: readonly number[];
  /** Made to the opened image, which is closed afterwards; the storages are those of the chain's files. */
  make(image: Image, storages: readonly Storage[]): void;
}

/** The bad ones among all states that a power cut during a change may leave: each must read as the disk did. */
export function badStates({ chain, writable, make }: Change, { barriers = true } = {}): readonly string[] {
  const before = storagesOf(chain.links).map((storage) => storage.copy());
  const expected = chain.read(before);
  const journal = new Journal();
  const storages = before.map((storage) => journal.record(storage.copy()));
  const image = chain.open(storages, writable);
  make(image, storages);
  image.close();
  const random = new Random(SEED);
  const bad: string[] = [];
  const seen = new Set<string>();
  for (const state of new CrashStates(journal.entries, before, {
    barriers,
    random,
    exhaustive: 6,
    subsets: 12,
  }).all()) {
    const files = state.files();
    const key = files.map((file) => file.fingerprint()).join(' ');
    if (seen.has(key)) continue;
    seen.add(key);
    const found = outcome(() => chain.read(files));
    if (typeof found === 'string') bad.push(`${state.id}: ${found}`);
    else if (!found.equals(expected)) bad.push(`${state.id}: another disk`);
    const wrong = chain.corruptions(files);
    if (wrong.length > 0) bad.push(`${state.id}: ${wrong.join('; ')}`);
  }
  return bad;
}

/**
 * Makes the k-th operation of all files fail, for every k: afterwards the disk reads as before, and the change can be
 * made again. Returns what went wrong, and how many operations failed.
 */
export function badFailures(change: Change): { readonly bad: readonly string[]; readonly failed: number } {
  const { chain, writable, make } = change;
  const expected = chain.read(storagesOf(chain.links));
  const bad: string[] = [];
  for (let k = 1; ; k++) {
    const files = storagesOf(chain.links).map((storage) => storage.copy());
    const faults = new Faults({ ...NO_FAULT, at: k, kinds: ['read', 'write', 'flush', 'resize', 'discard'] });
    const failure = outcome(() => {
      const storages = files.map((storage) => faults.inject(storage));
      const image = chain.open(storages, writable);
      try {
        make(image, storages);
      } finally {
        outcome(() => image.close());
      }
    });
    if (faults.fired === 0) return { bad, failed: k - 1 };
    const found = outcome(() => chain.read(files));
    if (typeof found === 'string' || !found.equals(expected)) bad.push(`${k} (${String(failure)}): another disk`);
    const wrong = chain.corruptions(files);
    if (wrong.length > 0) bad.push(`${k}: ${wrong.join('; ')}`);
    const again = outcome(() => {
      const image = chain.open(files, writable);
      make(image, files);
      image.close();
    });
    if (typeof again === 'string') bad.push(`${k}, again: ${again}`);
  }
}

/** What it returns, or why it failed. */
function outcome<T>(body: () => T): T | string {
  try {
    return body();
  } catch (error) {
    if (error instanceof ImgfsError) return error.message;
    throw error;
  }
}
