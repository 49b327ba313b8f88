import type { NewLuks } from '../../../codec/luks/format.js';
import {
  type CreateOption,
  type CreateOptions,
  choiceOption,
  flagOption,
  numberOption,
  type OptionValues,
  sizeOption,
  textOption,
} from '../../../image/creation.js';
import type { Preallocation } from '../../../image/image.js';
import { listed, luksOptions, wantedLuks } from '../../../image/luks-creation.js';
import { isPowerOfTwo, roundUp } from '../../../lib/bits.js';
import { ImgfsError } from '../../../lib/errors.js';
import { MAX, MIN_CLUSTER_BITS, MIN_EXTENDED_CLUSTER_BITS } from '../layout.js';

const SECTOR = 512;
const DEFAULT_REFCOUNT_BITS = 16;
const MAX_CLUSTER = 2 ** MAX.clusterBits;

const CLUSTER_SIZE = sizeOption('cluster_size', 'unit of allocation, 512 bytes to 2M, a power of two', 65_536);
const PREALLOCATION = choiceOption<Preallocation>(
  'preallocation',
  'what is set up beforehand: nothing, tables, tables and space on the host, or written zeros',
  ['off', 'metadata', 'falloc', 'full'],
  'off',
);
const COMPAT = choiceOption('compat', 'version 2 (0.10) or 3 (1.1)', ['0.10', 'v2', '1.1', 'v3'], '1.1');
const LAZY_REFCOUNTS = flagOption('lazy_refcounts', 'writers may postpone reference counts', false);
const REFCOUNT_BITS = numberOption(
  'refcount_bits',
  'width of a reference count, 1 to 64, a power of two',
  DEFAULT_REFCOUNT_BITS,
);
const EXTENDED_L2 = flagOption('extended_l2', 'clusters are allocated in 32 parts', false);
const COMPRESSION_TYPE = choiceOption(
  'compression_type',
  'how clusters are compressed that are',
  ['zlib', 'zstd'],
  'zlib',
);
const DATA_FILE = textOption(
  'data_file',
  "a file to be made that holds the disk's data, named from the image's directory",
);
const DATA_FILE_RAW = flagOption('data_file_raw', 'the data file stays a raw image of the disk', false);

const ENCRYPTION = flagOption('encryption', 'encrypted by AES: the old way to say encrypt.format=aes', false);
const ENCRYPT_FORMAT = textOption('encrypt.format', 'encrypted by luks, or by aes, which any passphrase opens');
const LUKS = luksOptions('encrypt.');

/** Every option of qemu-img. */
export const options: readonly CreateOption[] = [
  CLUSTER_SIZE,
  EXTENDED_L2,
  PREALLOCATION,
  COMPRESSION_TYPE,
  COMPAT,
  DATA_FILE,
  DATA_FILE_RAW,
  LAZY_REFCOUNTS,
  REFCOUNT_BITS,
  ENCRYPTION,
  ENCRYPT_FORMAT,
  ...listed(LUKS),
];

/** A new image of which every part is possible, and all of them together. */
export interface Plan {
  readonly version: 2 | 3;
  /** Whole sectors. */
  readonly size: number;
  readonly clusterBits: number;
  readonly refcountBits: number;
  readonly lazyRefcounts: boolean;
  readonly extended: boolean;
  readonly compression: 'zlib' | 'zstd';
  readonly dataFile: string | undefined;
  readonly dataFileRaw: boolean;
  readonly preallocation: Preallocation;
  readonly backing: { readonly name: string; readonly format: string } | undefined;
  readonly encryption: NewEncryption | undefined;
}

/** How the clusters will be encrypted. */
export type NewEncryption =
  | { readonly method: 'aes' }
  | { readonly method: 'luks'; readonly luks: NewLuks; readonly milliseconds: number };

/** What the options mean. Throws `usage` for what is impossible; `name` is the image's, for messages. */
export function planOf(wishes: CreateOptions, name: string): Plan {
  const plan = measuredPlan(wishes, name);
  for (const [wrong, why] of contradictions(plan)) if (wrong) throw new ImgfsError('usage', `${name}: ${why}`);
  return plan;
}

/** The same of an image that is only measured: of what contradicts itself too, as QEMU measures it. */
export function measuredPlan({ size, backing, values }: CreateOptions, name: string): Plan {
  const clusterSize = values.get(CLUSTER_SIZE);
  const dataFileRaw = values.get(DATA_FILE_RAW);
  const preallocation = values.get(PREALLOCATION);
  const plan: Plan = {
    version: ['0.10', 'v2'].includes(values.get(COMPAT)) ? 2 : 3,
    size: roundUp(size, SECTOR),
    clusterBits: Math.log2(clusterSize),
    refcountBits: values.get(REFCOUNT_BITS),
    lazyRefcounts: values.get(LAZY_REFCOUNTS),
    extended: values.get(EXTENDED_L2),
    compression: values.get(COMPRESSION_TYPE),
    dataFile: values.get(DATA_FILE),
    dataFileRaw,
    // A data file is raw only while every cluster lies where the tables say: they say so from the start.
    preallocation: dataFileRaw && preallocation === 'off' ? 'metadata' : preallocation,
    backing,
    encryption: encryptionOf(values, name),
  };
  for (const [wrong, why] of impossible(plan)) if (wrong) throw new ImgfsError('usage', `${name}: ${why}`);
  return plan;
}

function encryptionOf(values: OptionValues, name: string): NewEncryption | undefined {
  const format = values.get(ENCRYPT_FORMAT) ?? (values.get(ENCRYPTION) ? 'aes' : undefined);
  if (format === undefined) return undefined;
  if (format === 'aes') return { method: 'aes' };
  if (format === 'luks') {
    return { method: 'luks', luks: wantedLuks(values, LUKS, name), milliseconds: values.get(LUKS.time) };
  }
  throw new ImgfsError('usage', `option ${ENCRYPT_FORMAT.name} cannot be "${format}"`, { hint: 'it is aes or luks' });
}

type Objection = readonly [wrong: boolean, why: string];

/** Numbers that no image has. */
function impossible({ clusterBits, refcountBits, extended, version }: Plan): readonly Objection[] {
  return [
    [
      !Number.isInteger(clusterBits) || clusterBits < MIN_CLUSTER_BITS || clusterBits > MAX.clusterBits,
      `cluster_size is a power of two from ${2 ** MIN_CLUSTER_BITS} to ${MAX_CLUSTER}`,
    ],
    [
      !isPowerOfTwo(refcountBits) || refcountBits > 2 ** MAX.refcountOrder,
      `refcount_bits is a power of two from 1 to ${2 ** MAX.refcountOrder}`,
    ],
    [extended && clusterBits < MIN_EXTENDED_CLUSTER_BITS, 'extended_l2 needs a cluster_size of at least 16k'],
    [version === 2 && refcountBits !== DEFAULT_REFCOUNT_BITS, 'compat=0.10 has refcount_bits=16 only'],
  ];
}

/** What QEMU refuses too, and of encrypted images what could not be kept: zeros that are read, a raw data file. */
function contradictions(plan: Plan): readonly Objection[] {
  const { extended, dataFile, dataFileRaw, backing } = plan;
  const old = plan.version === 2;
  const encrypted = plan.encryption !== undefined;
  return [
    [old && plan.lazyRefcounts, 'lazy_refcounts needs compat=1.1'],
    [old && extended, 'extended_l2 needs compat=1.1'],
    [old && plan.compression !== 'zlib', 'compat=0.10 has compression_type=zlib only'],
    [old && dataFile !== undefined, 'data_file needs compat=1.1'],
    [dataFileRaw && dataFile === undefined, 'data_file_raw needs a data_file'],
    [dataFileRaw && backing !== undefined, 'data_file_raw cannot be had above a backing file'],
    [dataFileRaw && encrypted, 'the data file of an encrypted image is never raw'],
    [old && encrypted && plan.preallocation !== 'off', 'preallocation of an encrypted image needs compat=1.1'],
    [
      plan.preallocation !== 'off' && backing !== undefined && !extended,
      'preallocation above a backing file needs extended_l2=on',
    ],
  ];
}
