import type { Amending, AmendValues } from '../../../image/amending.js';
import {
  type CreateOption,
  choiceOption,
  flagOption,
  numberOption,
  type OptionValues,
  textOption,
} from '../../../image/creation.js';
import type { OpenContext } from '../../../image/format.js';
import { isPowerOfTwo } from '../../../lib/bits.js';
import { ImgfsError } from '../../../lib/errors.js';
import type { Storage } from '../../../storage/storage.js';
import { readBitmaps } from '../bitmaps/directory.js';
import type { HeaderChanges } from '../encode.js';
import { withLazyRefcounts } from '../encode.js';
import { type Header, readHeader } from '../header.js';
import { AUTOCLEAR, EXTENSION, MAX, withFeature } from '../layout.js';
import { readSnapshots } from '../snapshots.js';
import { putStart, restoreNames } from '../write/start.js';
import { openForStructure } from '../write/structure.js';
import type { Transaction } from '../write/transaction.js';
import type { Volume } from '../write/volume.js';
import { changeRefcountBits, checkRefcountBits } from './refcount-bits.js';
import { downgrade, upgrade } from './version.js';

const VERSIONS = ['0.10', 'v2', '1.1', 'v3'] as const;

/** What version 2 has. */
const OLD_REFCOUNT_BITS = 16;
const MAX_VM_STATE = 2 ** 32 - 1;

const COMPAT: CreateOption<string | undefined> = {
  ...choiceOption('compat', 'version 2 (0.10) or 3 (1.1)', VERSIONS, '1.1'),
  fallback: undefined,
};
const LAZY_REFCOUNTS = flagOption('lazy_refcounts', 'writers may postpone reference counts');
const REFCOUNT_BITS = numberOption('refcount_bits', 'width of a reference count, 1 to 64, a power of two');
const DATA_FILE = textOption('data_file', 'another name for the file that holds the data, which is not touched');
const DATA_FILE_RAW = flagOption(
  'data_file_raw',
  'the data file stays a raw image of the disk: can only be taken away',
);

export const amending: Amending = {
  options: [COMPAT, LAZY_REFCOUNTS, REFCOUNT_BITS, DATA_FILE, DATA_FILE_RAW],
  amend,
};

/** What an image shall be. */
interface Target {
  readonly version: 2 | 3;
  readonly lazyRefcounts: boolean;
  readonly refcountBits: number;
  readonly dataFile: string | undefined;
  readonly dataFileRaw: boolean;
}

/** In QEMU's order: first what makes it able to do more, last what makes it able to do less. */
function amend(storage: Storage, context: OpenContext, { options, backing }: AmendValues): void {
  const header = readHeader(storage, context.limits);
  assertBacking(storage.name, header, backing);
  const target = targetOf(header, options);
  assertPossible(storage.name, header, target, options);
  const volume = openForStructure(storage, context);
  if (target.refcountBits !== header.refcountBits) checkRefcountBits(volume, target.refcountBits);
  if (target.version === 2 && header.version === 3) assertDowngrade(volume);
  if (target.version > header.version) step(volume, (change) => upgrade(volume, change));
  if (target.refcountBits !== header.refcountBits) changeRefcountBits(volume, target.refcountBits);
  // The width of a count is one of the things an opened image does not expect to change.
  const wide = target.refcountBits === header.refcountBits ? volume : openForStructure(storage, context);
  if (flagsDiffer(wide.live.now, target) && target.version === 3) step(wide, () => flagged(wide, target));
  if (target.version < header.version) step(wide, (change) => downgrade(wide, change));
}

function step(volume: Volume, make: (change: Transaction) => HeaderChanges): void {
  const { extensions } = volume.live.now;
  volume.change(make);
  if (volume.live.now.version === 3) restoreNames(volume, extensions.all);
}

function targetOf(header: Header, options: OptionValues): Target {
  const compat = options.get(COMPAT);
  return {
    version: compat === undefined ? header.version : compat === '0.10' || compat === 'v2' ? 2 : 3,
    lazyRefcounts: options.get(LAZY_REFCOUNTS) ?? header.lazyRefcounts,
    refcountBits: options.get(REFCOUNT_BITS) ?? header.refcountBits,
    dataFile: options.get(DATA_FILE) ?? header.extensions.dataFile,
    dataFileRaw: options.get(DATA_FILE_RAW) ?? header.dataFileRaw,
  };
}

function assertBacking(name: string, { backing: present }: Header, backing: AmendValues['backing']): void {
  if (backing === undefined) return;
  if (backing.name === present?.name && backing.format === present?.format) return;
  throw new ImgfsError('unsupported', `${name}: its backing file is not amended`, { hint: 'imgfs rebase changes it' });
}

/** What QEMU refuses. */
function assertPossible(name: string, header: Header, target: Target, options: OptionValues): void {
  const { version, refcountBits } = target;
  const old = version === 2;
  const wrong = (
    [
      [
        !isPowerOfTwo(refcountBits) || refcountBits > 2 ** MAX.refcountOrder,
        `refcount_bits is a power of two from 1 to ${2 ** MAX.refcountOrder}`,
      ],
      [old && refcountBits !== OLD_REFCOUNT_BITS, 'compat=0.10 has refcount_bits=16 only'],
      [old && options.get(LAZY_REFCOUNTS) === true, 'lazy_refcounts needs compat=1.1'],
      [!header.external && options.get(DATA_FILE) !== undefined, 'it has no data file that could be named'],
      [target.dataFileRaw && !header.dataFileRaw, 'data_file_raw is said when an image is made, not later'],
    ] as const
  ).find(([is]) => is);
  if (wrong !== undefined) throw new ImgfsError('usage', `${name}: ${wrong[1]}`);
}

/** What version 2 cannot say. */
function assertDowngrade({ storage, live, limits }: Volume): void {
  const header = live.now;
  const snapshots = readSnapshots(storage, header, limits).map(({ snapshot }) => snapshot);
  const wrong = (
    [
      [header.external, 'its data lies in another file'],
      [header.extended, 'its clusters are allocated in parts'],
      [header.compression !== 'zlib', `its clusters are compressed by ${header.compression}`],
      [readBitmaps(storage, header, limits).length > 0, 'it has bitmaps'],
      [snapshots.some(({ diskSize }) => diskSize !== header.size), 'a snapshot has another size'],
      [snapshots.some(({ vmStateSize }) => vmStateSize > MAX_VM_STATE), 'a snapshot has too large a machine state'],
    ] as const
  ).find(([is]) => is);
  if (wrong === undefined) return;
  throw new ImgfsError('unsupported', `${storage.name} cannot have compat=0.10: ${wrong[1]}`);
}

function flagsDiffer(header: Header, target: Target): boolean {
  return (
    header.lazyRefcounts !== target.lazyRefcounts ||
    header.dataFileRaw !== target.dataFileRaw ||
    header.extensions.dataFile !== target.dataFile
  );
}

function flagged(volume: Volume, { lazyRefcounts, dataFile, dataFileRaw }: Target): HeaderChanges {
  const { extensions, stored, autoclear } = volume.live.now;
  const others = extensions.all.filter(({ type }) => type !== EXTENSION.dataFile);
  const named = dataFile === undefined ? [] : [{ type: EXTENSION.dataFile, data: Buffer.from(dataFile) }];
  return {
    ...putStart(volume, [...named, ...others], withLazyRefcounts(stored, lazyRefcounts)),
    autoclear: withFeature(autoclear, AUTOCLEAR.dataFileRaw, dataFileRaw),
  };
}
