import { availableParallelism } from 'node:os';
import { type Command, Option } from 'commander';
import { ImgfsError } from '../lib/errors.js';
import { cacheMode, declareSourceCache } from './cache-option.js';
import { collected, declareDiskOption, declareWriteOptions, type OpenFlags } from './open-options.js';
import { declareProgress, type ProgressFlags } from './progress.js';
import { parseSize } from './sizes.js';

export interface ConvertFlags extends OpenFlags, ProgressFlags {
  readonly targetFormat: string;
  readonly options?: readonly string[];
  readonly backing?: string;
  readonly backingFormat?: string;
  readonly snapshot?: string;
  readonly sparse?: string;
  readonly byHost?: true;
  readonly compress?: true;
  readonly threads?: string;
  readonly outOfOrder?: true;
  readonly rate?: string;
  readonly salvage?: true;
  readonly verify?: true;
  readonly withSnapshots?: true;
  readonly object?: readonly string[];
  /** False with -n. */
  readonly create: boolean;
  readonly cache: string;
  readonly targetIsZero?: true;
  readonly bitmaps?: true;
  readonly skipBrokenBitmaps?: true;
  readonly writableRefs?: true;
  readonly passwordFile?: readonly string[];
}

const USUAL_SPARSE = 4096;
const LARGEST_SPARSE = 16 * 1024 * 1024;
const SECTOR = 512;
const USUAL_THREADS = 8;
const MOST_THREADS = 16;

/** Declares qemu-img's letters, and ours. */
export function declareConvertOptions(command: Command): void {
  command
    .option('-O, --target-format <fmt>', 'the format of the target; ova makes an appliance around it', 'raw')
    .option('-o, --options <list>', 'options of that format, NAME=VALUE,...; "help" lists them (repeatable)', collected)
    .option(
      '-B, --backing <file>',
      'the image below the target, which holds what lies below the source: only the rest is copied',
    )
    .addOption(
      new Option('-b <file>', 'as -B').hideHelp().argParser((file: string) => command.setOptionValue('backing', file)),
    )
    .option('-F, --backing-format <fmt>', 'the format of the image below')
    .option(
      '-l, --snapshot <snapshot>',
      'copy that snapshot of the source: an id or a name, or snapshot.id=...,snapshot.name=...',
    )
    .option('-S, --sparse <size>', 'so many zeros at once become a hole (4k); 0 writes everything, holes too')
    .option(
      '-C, --by-host',
      'have the host copy, or share, what lies in files as it is: zeros there are not looked for',
    )
    .option('-c, --compress', 'store what is written compressed')
    .option('-m, --threads <count>', 'read, unpack and pack in so many threads at most (8); 1 does all in one')
    .option('-W, --out-of-order', 'write what is ready, not in the order of the disk')
    .option('-r, --rate <rate>', 'write so many bytes a second at most')
    .option('--salvage', 'go on where the source cannot be read: that becomes zeros, and a warning says where')
    .option('--with-snapshots', 'copy every internal snapshot too, from qcow2 to qcow2')
    .option('--verify', 'read back what was written, and compare, before it counts')
    .option('-n, --no-create', 'write into a target that is there, over what it holds')
    .option('--target-is-zero', 'with -n: all of the target reads as zeros already')
    .option('-q, --quiet', 'show no progress')
    .option(
      '-t, --cache <mode>',
      'with -n, how the target is written: a caching mode as of mount; a new one is durable when it has its name',
      cacheMode,
      'writeback',
    )
    .option('-U, --force-share', 'read the sources although another process writes');
  declareSourceCache(command);
  declareProgress(command);
  command
    .option('--bitmaps', 'copy the persistent bitmaps of the source too')
    .option('--skip-broken-bitmaps', 'leave out those that do not tell what changed');
  declareDiskOption(command);
  declareWriteOptions(command);
  command.option('--object <secret>', 'as qemu-img has it: secret,id=ID,file=FILE, for key-secret=ID', collected);
}

/** What `-S` says, in bytes. Throws `usage`. */
export function sparseOf({ sparse, byHost }: ConvertFlags): number {
  if (sparse === undefined) return USUAL_SPARSE;
  if (byHost === true) throw new ImgfsError('usage', '-S looks for zeros in what -C does not look at: leave out one');
  const bytes = parseSize(sparse, '-S');
  if (bytes % SECTOR === 0 && bytes <= LARGEST_SPARSE) return bytes;
  throw new ImgfsError('usage', `-S ${sparse} is impossible`, {
    hint: `it is a multiple of ${SECTOR}, at most ${LARGEST_SPARSE}; 0 writes everything`,
  });
}

/** How many threads shall help the one that writes, as far as `-m` and the machine go. Throws `usage`. */
export function threadsOf({ threads: given = String(USUAL_THREADS) }: ConvertFlags): number {
  const count = /^[0-9]+$/.test(given) ? Number(given) : 0;
  if (count < 1 || count > MOST_THREADS) {
    throw new ImgfsError('usage', `-m ${given} is impossible`, { hint: `it is from 1 to ${MOST_THREADS}` });
  }
  return count === 1 ? 0 : Math.min(count, availableParallelism());
}

/** What `-r` says, in bytes a second; undefined for no limit. Throws `usage`. */
export function rateOf({ rate }: ConvertFlags): number | undefined {
  const bytes = rate === undefined ? 0 : parseSize(rate, '-r');
  return bytes === 0 ? undefined : bytes;
}
