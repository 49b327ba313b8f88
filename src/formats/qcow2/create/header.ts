import { ImgfsError } from '../../../lib/errors.js';
import { encodeCryptoExtension, encodeExtensions, encodeFeatureNames, encodeHeader, featureBits } from '../encode.js';
import type { RawExtension } from '../extensions.js';
import { AUTOCLEAR, COMPATIBLE, EXTENSION, HEADER_BYTES, INCOMPATIBLE, MAX } from '../layout.js';
import type { Geometry } from './geometry.js';
import type { Plan } from './options.js';

const CRYPT_METHODS = { none: 0, aes: 1, luks: 2 } as const;

/** What programs that do not know a feature can call it. */
const FEATURE_NAMES = [
  { bit: INCOMPATIBLE.dirty, name: 'dirty bit' },
  { bit: INCOMPATIBLE.corrupt, name: 'corrupt bit' },
  { bit: INCOMPATIBLE.dataFile, name: 'external data file' },
  { bit: INCOMPATIBLE.compressionType, name: 'compression type' },
  { bit: INCOMPATIBLE.extendedL2, name: 'extended L2 entries' },
];

/** The used part of the first cluster: header, extensions, backing file name. Throws `limit` where it is too small. */
export function headerCluster(name: string, plan: Plan, geometry: Geometry): Buffer {
  const extensions = extensionsOf(plan, geometry);
  const names = { type: EXTENSION.featureNames, data: encodeFeatureNames(FEATURE_NAMES) };
  const bare = assembled(plan, geometry, extensions);
  const full = plan.version === 3 ? assembled(plan, geometry, [...extensions, names]) : bare;
  if (Buffer.byteLength(plan.backing?.name ?? '') > MAX.backingNameBytes) {
    throw new ImgfsError('limit', `${name}: the name of its backing file is longer than ${MAX.backingNameBytes} bytes`);
  }
  // The table of names is a courtesy: where clusters are small it makes room for what is needed.
  const header = full.length <= geometry.clusterSize ? full : bare;
  if (header.length <= geometry.clusterSize) return header;
  throw new ImgfsError('limit', `${name}: its file names do not fit into a cluster of ${geometry.clusterSize} bytes`, {
    hint: 'larger clusters hold them',
  });
}

function extensionsOf({ backing, dataFile }: Plan, geometry: Geometry): readonly RawExtension[] {
  const { luksAt, luksBytes, clusterSize } = geometry;
  const claim = { at: luksAt * clusterSize, bytes: luksBytes };
  const crypto = luksBytes === 0 ? [] : [{ type: EXTENSION.crypto, data: encodeCryptoExtension(claim) }];
  const text = (type: number, value: string | undefined): readonly RawExtension[] =>
    value === undefined ? [] : [{ type, data: Buffer.from(value) }];
  return [...text(EXTENSION.backingFormat, backing?.format), ...text(EXTENSION.dataFile, dataFile), ...crypto];
}

function assembled(plan: Plan, geometry: Geometry, extensions: readonly RawExtension[]): Buffer {
  const { clusterSize, tableAt, blocksAt, l1At, l1Entries } = geometry;
  const headerBytes = plan.version === 2 ? HEADER_BYTES.version2 : HEADER_BYTES.known;
  const area = encodeExtensions(extensions);
  const backing = Buffer.from(plan.backing?.name ?? '');
  const header = encodeHeader({
    version: plan.version,
    backingAt: backing.length === 0 ? 0 : headerBytes + area.length,
    backingBytes: backing.length,
    clusterBits: plan.clusterBits,
    size: plan.size,
    cryptMethod: CRYPT_METHODS[plan.encryption?.method ?? 'none'],
    l1Entries,
    l1At: l1At * clusterSize,
    refcountTableAt: tableAt * clusterSize,
    refcountTableClusters: blocksAt - tableAt,
    snapshotCount: 0,
    snapshotsAt: 0,
    incompatible: featureBits(
      ...(plan.dataFile === undefined ? [] : [INCOMPATIBLE.dataFile]),
      ...(plan.compression === 'zlib' ? [] : [INCOMPATIBLE.compressionType]),
      ...(plan.extended ? [INCOMPATIBLE.extendedL2] : []),
    ),
    compatible: featureBits(...(plan.lazyRefcounts ? [COMPATIBLE.lazyRefcounts] : [])),
    autoclear: featureBits(...(plan.dataFileRaw ? [AUTOCLEAR.dataFileRaw] : [])),
    refcountOrder: Math.log2(plan.refcountBits),
    headerBytes,
    compressionType: plan.compression === 'zlib' ? 0 : 1,
  });
  return Buffer.concat([header, area, backing]);
}
