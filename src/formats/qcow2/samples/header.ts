/** The header cluster of a recipe of `samples.ts`. */
import {
  encodeBitmapsExtension,
  encodeCryptoExtension,
  encodeExtensions,
  encodeHeader,
  featureBits,
} from '../encode.js';
import type { RawExtension } from '../extensions.js';
import {
  AUTOCLEAR,
  COMPATIBLE,
  type CryptoClaim,
  EXTENSION,
  type Features,
  HEADER_BYTES,
  INCOMPATIBLE,
} from '../layout.js';
import type { SampleImage, SampleOptions } from './image.js';

/** Where the parts lie that the header names. All offsets are bytes. */
export interface Places {
  readonly l1At: number;
  readonly l1Entries: number;
  readonly refcountTableAt: number;
  readonly refcountTableClusters: number;
  readonly snapshotsAt: number;
  readonly bitmaps?: { readonly at: number; readonly bytes: number };
  readonly crypto?: CryptoClaim;
}

/** A byte no field of today has: what a reader must skip in a header longer than it knows. */
const UNKNOWN_BYTE = 90;

/** The first cluster: header, extensions, backing file name. */
export function sampleHeader(recipe: SampleImage, places: Places): Buffer {
  const { options } = recipe;
  const version = options.version ?? 3;
  const headerBytes = version === 2 ? HEADER_BYTES.version2 : (options.headerBytes ?? HEADER_BYTES.known);
  const area = encodeExtensions(extensionsOf(options, places));
  const name = Buffer.from(options.backing?.name ?? '');
  const into = Buffer.alloc(recipe.clusterSize);
  const header = encodeHeader({
    ...places,
    ...featuresOf(options),
    version,
    backingAt: name.length === 0 ? 0 : headerBytes + area.length,
    backingBytes: name.length,
    clusterBits: options.clusterBits ?? 16,
    size: recipe.size,
    cryptMethod: options.cryptMethod ?? 0,
    snapshotCount: recipe.snapshots.length,
    refcountOrder: Math.log2(options.refcountBits ?? 16),
    headerBytes,
    compressionType: options.compression === 'zstd' ? 1 : 0,
  });
  into.set(header);
  if (headerBytes > HEADER_BYTES.known) into.fill(UNKNOWN_BYTE, HEADER_BYTES.known, headerBytes);
  into.set(area, headerBytes);
  into.set(name, headerBytes + area.length);
  return into;
}

function featuresOf(options: SampleOptions): Record<'incompatible' | 'compatible' | 'autoclear', Features> {
  const bits = (...wanted: readonly (readonly [boolean | undefined, number])[]): Features =>
    featureBits(...wanted.filter(([on]) => on === true).map(([, bit]) => bit));
  return {
    incompatible: bits(
      [options.dirty, INCOMPATIBLE.dirty],
      [options.corrupt, INCOMPATIBLE.corrupt],
      [options.dataFile !== undefined, INCOMPATIBLE.dataFile],
      [options.compression === 'zstd', INCOMPATIBLE.compressionType],
      [options.extended, INCOMPATIBLE.extendedL2],
    ),
    compatible: bits([options.lazyRefcounts, COMPATIBLE.lazyRefcounts]),
    autoclear: bits(
      [(options.bitmaps ?? []).length > 0, AUTOCLEAR.bitmaps],
      [options.dataFile?.raw, AUTOCLEAR.dataFileRaw],
    ),
  };
}

function extensionsOf(options: SampleOptions, places: Places): RawExtension[] {
  const { backing, dataFile, bitmaps = [] } = options;
  const found: RawExtension[] = [...(options.extensions ?? [])];
  if (backing?.format !== undefined) {
    found.push({ type: EXTENSION.backingFormat, data: Buffer.from(backing.format) });
  }
  if (dataFile !== undefined) found.push({ type: EXTENSION.dataFile, data: Buffer.from(dataFile.name) });
  if (places.bitmaps !== undefined) {
    const data = encodeBitmapsExtension({ ...places.bitmaps, count: bitmaps.length });
    found.push({ type: EXTENSION.bitmaps, data });
  }
  if (places.crypto !== undefined) found.push({ type: EXTENSION.crypto, data: encodeCryptoExtension(places.crypto) });
  return found;
}
