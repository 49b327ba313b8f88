import { asBuffer, roundUp } from '../../lib/bits.js';
import { corrupt, ImgfsError } from '../../lib/errors.js';
import { storedText } from '../../lib/stored-text.js';
import {
  BITMAPS_EXTENSION_BYTES,
  type BitmapsClaim,
  CRYPTO_EXTENSION_BYTES,
  type CryptoClaim,
  decodeBitmapsExtension,
  decodeCryptoExtension,
  decodeExtensionHeader,
  decodeFeatureName,
  EXTENSION,
  EXTENSION_HEADER_BYTES,
  FEATURE_NAME_BYTES,
  MAX,
} from './layout.js';

/** A header extension as stored, so that a writer can put back the ones it does not know. */
export interface RawExtension {
  readonly type: number;
  readonly data: Uint8Array;
}

/** What the known header extensions say. */
export interface Extensions {
  readonly all: readonly RawExtension[];
  readonly backingFormat?: string;
  readonly dataFile?: string;
  readonly bitmaps?: BitmapsClaim;
  readonly crypto?: CryptoClaim;
}

/**
 * The frames between `from` and `to` of the header cluster, up to the end marker. Every frame moves forward by at
 * least its own header, so the loop is bounded by the cluster. Throws `corrupt` for one that overruns the area, and
 * `limit` for too many.
 */
export function splitExtensions(cluster: Buffer, from: number, to: number, name: string): RawExtension[] {
  const found: RawExtension[] = [];
  for (let at = from; at + EXTENSION_HEADER_BYTES <= to; ) {
    const { type, length } = decodeExtensionHeader(cluster, at);
    if (type === EXTENSION.end) break;
    const data = at + EXTENSION_HEADER_BYTES;
    if (length > to - data) throw corrupt(`${name}: a header extension of ${length} bytes overruns the header`);
    if (found.length === MAX.extensions) {
      throw new ImgfsError('limit', `${name}: more than ${MAX.extensions} header extensions`);
    }
    found.push({ type, data: cluster.subarray(data, data + length) });
    at = data + roundUp(length, 8);
  }
  return found;
}

/** Decodes the known extensions; the first of a type counts, as the specification allows only one. */
export function readExtensions(all: readonly RawExtension[], name: string): Extensions {
  const first = (type: number): Buffer | undefined => {
    const found = all.find((extension) => extension.type === type);
    return found === undefined ? undefined : asBuffer(found.data);
  };
  const format = first(EXTENSION.backingFormat);
  const dataFile = first(EXTENSION.dataFile);
  const bitmaps = first(EXTENSION.bitmaps);
  const crypto = first(EXTENSION.crypto);
  return {
    all,
    ...(format === undefined ? {} : { backingFormat: storedText(format) }),
    ...(dataFile === undefined ? {} : { dataFile: storedText(dataFile) }),
    ...(bitmaps === undefined ? {} : { bitmaps: readBitmapsClaim(bitmaps, name) }),
    ...(crypto === undefined ? {} : { crypto: readCryptoClaim(crypto, name) }),
  };
}

/** How messages call incompatible feature `bit`: by the image's own table where it has a name for it. */
export function incompatibleName(all: readonly RawExtension[], bit: number): string {
  const table = all.find((extension) => extension.type === EXTENSION.featureNames);
  const bytes = asBuffer(table?.data ?? new Uint8Array());
  for (let at = 0; at + FEATURE_NAME_BYTES <= bytes.length; at += FEATURE_NAME_BYTES) {
    const feature = decodeFeatureName(bytes, at);
    const text = storedText(feature.name);
    if (feature.field === 0 && feature.bit === bit && text !== '') return `${text} (bit ${bit})`;
  }
  return `bit ${bit}`;
}

function readBitmapsClaim(data: Buffer, name: string): BitmapsClaim {
  if (data.length !== BITMAPS_EXTENSION_BYTES) throw corrupt(`${name}: the bitmaps extension has a wrong length`);
  const claim = decodeBitmapsExtension(data, name);
  if (claim.count === 0) throw corrupt(`${name}: the bitmaps extension holds no bitmap`);
  if (claim.count > MAX.bitmaps) {
    throw new ImgfsError('limit', `${name}: ${claim.count} bitmaps, the limit is ${MAX.bitmaps}`);
  }
  return claim;
}

function readCryptoClaim(data: Buffer, name: string): CryptoClaim {
  if (data.length !== CRYPTO_EXTENSION_BYTES) throw corrupt(`${name}: the encryption extension has a wrong length`);
  return decodeCryptoExtension(data, name);
}
