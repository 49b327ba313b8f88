/** What each format offers to the suites that run over all of them, found by the name of the format. */
import { formats } from '../../src/formats/index.js';
import type { ImageFormat, OpenContext, Reference } from '../../src/image/format.js';
import { foundKey, type ImageKey, type KeyFinder } from '../../src/image/keys.js';
import { DEFAULT_LIMITS, type Limits } from '../../src/image/limits.js';
import { type FieldPlace, type FormatSamples, SAMPLE_PASSPHRASE, type SampleFile } from '../../src/image/samples.js';
import { ImgfsError } from '../../src/lib/errors.js';
import { MemoryStorage } from '../../src/storage/memory.js';

export const imageFormats: readonly ImageFormat[] = formats.filter((format) => format.kind === 'image');

const found = await Promise.all(
  imageFormats.map(async ({ name }) => {
    const module = (await import(`../../src/formats/${name}/samples.js`)) as { readonly samples: FormatSamples };
    return [name, module.samples] as const;
  }),
);
const all: ReadonlyMap<string, FormatSamples> = new Map(found);

/** The samples of a format of the registry that is not only recognised. */
export function samplesOf(format: string): FormatSamples {
  const samples = all.get(format);
  if (samples === undefined) throw new Error(`${format} has no samples`);
  return samples;
}

/** Every encrypted sample has the same passphrase. */
export function sampleKey(find: KeyFinder): ImageKey {
  const bytes = new Uint8Array(foundKey('sample', { of: () => Buffer.from(SAMPLE_PASSPHRASE) }, find));
  return { bytes, release: () => bytes.fill(0) };
}

/** A read-only context in which an image finds the files beside it, and no others. */
export function sampleContext(beside: readonly SampleFile[] = [], limits: Partial<Limits> = {}): OpenContext {
  const find = ({ name }: Reference): readonly [SampleFile, MemoryStorage] => {
    const file = beside.find((one) => one.name === name);
    // As the program does: a mutant may name anything.
    if (file === undefined) throw new ImgfsError('missing', `no file is called ${name}`);
    return [file, MemoryStorage.from(file.bytes(), name)];
  };
  const context: OpenContext = {
    writable: false,
    key: sampleKey,
    limits: { ...DEFAULT_LIMITS, ...limits },
    openStorage: (reference) => find(reference)[1],
    openImage: (reference) => {
      const [file, storage] = find(reference);
      const wanted = reference.format ?? file.format ?? 'raw';
      const format = imageFormats.find(({ name }) => name === wanted);
      if (format === undefined) throw new Error(`${wanted} is no image format`);
      return format.open(storage, context);
    },
  };
  return context;
}

/** The value of a field. */
export function fieldValue(image: Buffer, { at, bytes, littleEndian }: FieldPlace): bigint {
  const stored = Buffer.from(image.subarray(at, at + bytes));
  return BigInt(`0x${(littleEndian === true ? stored.reverse() : stored).toString('hex')}`);
}

/** Puts a value into a field, cut to the field's width. */
export function setField(image: Buffer, { at, bytes, littleEndian }: FieldPlace, value: bigint): void {
  const hex = BigInt.asUintN(bytes * 8, value)
    .toString(16)
    .padStart(bytes * 2, '0');
  const stored = Buffer.from(hex, 'hex');
  (littleEndian === true ? stored.reverse() : stored).copy(image, at);
}
