/** Making images in memory, by a format's own `creation`. */
import { type CreateContext, type CreateOptions, type OptionValue, OptionValues } from '../../src/image/creation.js';
import type { ImageFormat, OpenContext } from '../../src/image/format.js';
import { SAMPLE_PASSPHRASE } from '../../src/image/samples.js';
import { ImgfsError } from '../../src/lib/errors.js';
import { MemoryStorage } from '../../src/storage/memory.js';
import type { Storage } from '../../src/storage/storage.js';
import { closedContext } from './images.js';
import { sampleKey } from './samples.js';
import { Random } from './seed.js';

export interface Made {
  readonly storage: MemoryStorage;
  /** The other files of the image, by the names it stores. */
  readonly others: ReadonlyMap<string, MemoryStorage>;
}

export interface Wishes extends Partial<Omit<CreateOptions, 'values'>> {
  readonly values?: Readonly<Record<string, OptionValue>>;
  /** What the file is called. */
  readonly fileName?: string;
  /** Decides every random byte. */
  readonly seed?: number;
}

/** Makes an image whose bytes depend on nothing but the arguments. Throws what making it throws. */
export function makeImage(format: ImageFormat, wishes: Wishes = {}): Made {
  const { size = 1024 * 1024, backing, values = {}, fileName = 'disk' } = wishes;
  const { creation } = format;
  if (creation === undefined) throw new Error(`${format.name} images cannot be made`);
  const storage = new MemoryStorage(fileName);
  const others = new Map<string, MemoryStorage>();
  const given = new OptionValues(new Map(Object.entries(values)));
  creation.create(storage, { size, backing, values: given }, memoryContext(fileName, others, wishes.seed));
  return { storage, others };
}

/** Milliseconds between two looks at the clock: on so slow a machine few iterations make a key. */
const SLOW = 100_000;

/** A context that keeps other files in `others`. */
export function memoryContext(fileName: string, others: Map<string, MemoryStorage>, seed = 1): CreateContext {
  const random = new Random(seed);
  let milliseconds = 0;
  return {
    fileName,
    makeStorage(name): Storage {
      if (others.has(name)) throw new ImgfsError('exists', `${name} is there already`);
      const storage = new MemoryStorage(name);
      others.set(name, storage);
      return storage;
    },
    randomBytes: (count) => random.bytes(count),
    passphrase: () => Buffer.from(SAMPLE_PASSPHRASE),
    processorTime: () => {
      milliseconds += SLOW;
      return milliseconds;
    },
    now: 1_700_000_000,
  };
}

/** A context in which the image finds copies of its other files by their names. */
export function madeContext({ others }: Made): OpenContext {
  return {
    ...closedContext(),
    standIns: false,
    key: sampleKey,
    openStorage: ({ name }) => {
      const other = others.get(name);
      if (other === undefined) throw new Error(`the image names ${name}, which was not made`);
      return other.copy();
    },
  };
}
