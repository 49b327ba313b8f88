import { dirname, extname } from 'node:path';
import type { Command } from 'commander';
import { APPLIANCE } from '../appliance/options.js';
import { type CopiedBitmap, copiedBitmaps } from '../convert/bitmaps.js';
import { compareDisks } from '../convert/compare.js';
import { blockWork, type CopyOptions, copyDisk } from '../convert/copy.js';
import { Crew } from '../convert/crew.js';
import type { ReadDisk } from '../convert/joined.js';
import type { Lost } from '../convert/salvage.js';
import { Sources } from '../convert/sources.js';
import { assertCopyable, copyStates, firstSize, totalOf } from '../convert/with-snapshots.js';
import { formats } from '../formats/index.js';
import type { Format } from '../image/format.js';
import type { Image } from '../image/image.js';
import { identityIfThere } from '../image/new-image.js';
import { type OpenedImage, type OpenOptions, openImage } from '../image/open.js';
import { formatNamed } from '../image/probe.js';
import { ImgfsError } from '../lib/errors.js';
import { type ConvertFlags, declareConvertOptions, rateOf, sparseOf, threadsOf } from './convert-options.js';
import { openTarget, type Request, type Target, targetSettings } from './convert-target.js';
import { asksForHelp, createHelp, type Optioned } from './create-options.js';
import { endAs, Interrupted, interruptible, type Run } from './interruptible.js';
import { hintWhereMounted } from './mounted-hint.js';
import { creatable } from './new-images.js';
import { diskOptions } from './open-options.js';
import { print, warn } from './output.js';
import { GivenPassphrases } from './passphrases.js';
import { ProgressLine, showing } from './progress.js';
import { QEMU_IMG_CODES, type Verb } from './verb.js';

const ABOUT =
  'Several sources are put one after the other. A new target has its name only when it is complete and durable, and ' +
  'takes the place of a regular file of that name, with its owner and mode. With -n, and on a block device, the target ' +
  'is written where it is: stopped halfway, it is neither the old nor the new.';

/** `imgfs convert`: copies disks into another image. */
export const verb: Verb = {
  exitCodes: QEMU_IMG_CODES,
  declare(command) {
    command.description(`${command.description()} ${ABOUT}`).argument('[files...]', 'the sources, and last the target');
    declareConvertOptions(command);
  },
  async run(command: Command) {
    const flags = command.opts<ConvertFlags>();
    const paths = command.args;
    const target = paths.at(-1);
    const format = targetFormat(command, target);
    if ('creation' in format && asksForHelp(flags.options ?? [])) {
      print(createHelp(format));
      return 0;
    }
    if (target === undefined || paths.length < 2) {
      throw new ImgfsError('usage', 'a source and a target are needed', { hint: 'see imgfs help convert' });
    }
    const passphrases = new GivenPassphrases(flags.passwordFile ?? []);
    try {
      await convert({ sources: paths.slice(0, -1), path: target, format: format.name, flags, passphrases });
      return 0;
    } catch (error) {
      if (error instanceof Interrupted) endAs(error);
      throw error;
    } finally {
      passphrases.wipe();
    }
  },
};

/** Of a file called as an appliance is, one is made unless another format is asked for. */
function targetFormat(command: Command, target: string | undefined): Format | Optioned {
  const { targetFormat: name, create } = command.opts<ConvertFlags>();
  if (!create) return formatNamed(formats, name);
  const chosen = command.getOptionValueSource('targetFormat') !== 'default';
  const appliance = chosen ? name === APPLIANCE.name : extname(target ?? '').toLowerCase() === '.ova';
  return appliance ? APPLIANCE : creatable(name);
}

async function convert(request: Request): Promise<void> {
  const { sources: paths, path, flags, passphrases } = request;
  const [sparse, threads, rate] = [sparseOf(flags), threadsOf(flags), rateOf(flags)];
  assertTogether(paths, flags);
  const settings = targetSettings(request);
  const options: OpenOptions = { ...diskOptions(flags), passphrases };
  const open = (name: string): OpenedImage => hintWhereMounted(name, () => openImage(name, options));
  const sources = new Sources(paths, open, flags.snapshot);
  const states = flags.withSnapshots === true ? sources.first : undefined;
  const total = states === undefined ? sources.disk.size : totalOf(states.image);
  const line = new ProgressLine({ verb: 'convert', label: 'converting', total }, flags);
  try {
    if (states !== undefined) assertCopyable(states.image, states.file.name);
    const own = identityIfThere(path);
    if (own !== undefined && sources.identities().has(own)) {
      throw new ImgfsError('refused', `${path} is what would be read: a disk cannot be converted into itself`);
    }
    const lost = ({ at, length, why }: Lost): void => {
      line.clear();
      warn(`${length} bytes at ${at} become zeros: ${why}`);
    };
    const bitmaps = bitmapsOf(sources, flags);
    await interruptible(async (run) => {
      const begin = states === undefined ? sources.disk : { size: firstSize(states.image), end: states.image.size };
      const target = openTarget(request, settings, begin, bitmaps);
      try {
        assertPacks(request, target);
        const copying: CopyOptions = {
          sparse,
          targetIsZero: target.isZero,
          topLayer: settings.backing !== undefined,
          byHost: flags.byHost === true,
          pack: flags.compress === true || target.disk.packing?.always === true,
          // A format that packs everything takes it in order.
          outOfOrder: flags.outOfOrder === true && target.disk.packing?.always !== true,
          lost: flags.salvage === true ? lost : undefined,
          share: sparse !== 0 && sharesBlocks(sources, target, path),
          rate,
        };
        const shown: Run = (steps) => run(showing(steps, line));
        if (states === undefined) await copy(sources, target, copying, threads, shown);
        else await shown(copyStates(states.image, target.disk, sparse));
        await run(target.finish());
        if (flags.verify === true) await run(verification(sources.disk, states?.image, target, path));
      } catch (error) {
        target.discard();
        throw error;
      }
      target.complete();
    });
  } finally {
    line.end();
    settings.passphrase?.wipe();
    sources.close();
  }
}

/** Not with what is encrypted: nothing lies there as it is. */
function sharesBlocks(sources: Sources, { disk }: Target, path: string): boolean {
  if (disk.info.encrypted || disk.packing?.always === true) return false;
  return sources.canShareWith(dirname(path));
}

async function copy(sources: Sources, target: Target, copying: CopyOptions, threads: number, run: Run): Promise<void> {
  const work = blockWork(target.disk, copying);
  const plans = sources.plans();
  const crew = threads === 0 ? undefined : new Crew({ plans, hostBytes: sources.hostBytes(), work, count: threads });
  try {
    await run(copyDisk(sources.disk, target.disk, copying, crew));
  } finally {
    await crew?.end();
  }
}

/** Reads back what was written, snapshots of `states` too. Throws `io` where that is not what the source holds. */
function* verification(source: ReadDisk, states: Image | undefined, target: Target, path: string): Generator<number> {
  const reread = target.reread();
  try {
    yield* assertSame(source, reread, path);
    for (const { id, name } of states?.snapshots() ?? []) {
      const [one, other] = [states?.openSnapshot(id), reread.openSnapshot(id)];
      try {
        if (one !== undefined) yield* assertSame(one, other, `snapshot "${name}" of ${path}`);
      } finally {
        one?.close();
        other.close();
      }
    }
  } finally {
    reread.close();
  }
}

function bitmapsOf({ first }: Sources, flags: ConvertFlags): readonly CopiedBitmap[] {
  if (flags.bitmaps !== true || first === undefined) return [];
  return copiedBitmaps(first, { formats, skipBroken: flags.skipBrokenBitmaps === true, warn });
}

function* assertSame(source: ReadDisk, reread: ReadDisk, what: string): Generator<number> {
  const difference = yield* compareDisks(source, reread, { strict: false });
  if (difference === undefined || difference.kind === 'size') return;
  throw new ImgfsError('io', `${what}: what was written at ${difference.offset} reads back otherwise`, {
    hint: 'check the memory and the disks of this machine',
  });
}

/** Throws `unsupported` where -c asks for what the target has not. */
function assertPacks({ path, flags }: Request, { disk }: Target): void {
  if (flags.compress !== true || disk.packing !== undefined) return;
  throw new ImgfsError('unsupported', `${path}: such an image stores nothing compressed`, {
    hint: 'leave out -c, or say -O qcow2',
  });
}

/** Throws `usage` for letters that contradict each other. */
function assertTogether(sources: readonly string[], flags: ConvertFlags): void {
  const several = sources.length > 1;
  if (several && flags.snapshot !== undefined) {
    throw new ImgfsError('usage', 'a snapshot is of one image: several sources cannot be joined with -l');
  }
  if (several && flags.backing !== undefined) {
    throw new ImgfsError('usage', 'several sources lie above no one backing file: leave out -B');
  }
  if (flags.skipBrokenBitmaps === true && flags.bitmaps !== true) {
    throw new ImgfsError('usage', '--skip-broken-bitmaps says which bitmaps are not copied: it needs --bitmaps');
  }
  if (several && flags.bitmaps === true) {
    throw new ImgfsError('usage', 'bitmaps are of one image: several sources cannot be joined with --bitmaps');
  }
  if (!flags.create && flags.bitmaps === true) {
    throw new ImgfsError('unsupported', 'bitmaps are copied into new images only: leave out -n, or use imgfs bitmap');
  }
  if (flags.withSnapshots === true) assertForSnapshots(sources, flags);
  if (flags.compress === true && flags.byHost === true) {
    throw new ImgfsError('usage', '-C copies what lies there as it is, -c packs it: leave out one');
  }
  if (flags.salvage === true && flags.byHost === true) {
    throw new ImgfsError('usage', '-C copies without looking, --salvage has to look: leave out one');
  }
  if (flags.salvage === true && flags.verify === true) {
    throw new ImgfsError('usage', '--verify compares with what --salvage could not read: leave out one');
  }
  if (flags.targetIsZero === true && flags.create) {
    throw new ImgfsError('usage', '--target-is-zero is for targets that are there: it needs -n');
  }
  if (!flags.create && flags.options !== undefined) {
    throw new ImgfsError('usage', '-o says how an image is made: it has no effect with -n');
  }
  if (flags.targetIsZero === true && flags.backing !== undefined) {
    throw new ImgfsError('usage', 'a target above a backing file is not known to be zeros');
  }
}

/** Snapshots are copied from one image into a new one that can hold them, and in one way only. */
function assertForSnapshots(sources: readonly string[], flags: ConvertFlags): void {
  const letters = {
    '-l': flags.snapshot,
    '-n': flags.create ? undefined : true,
    '-B': flags.backing,
    '-c': flags.compress,
    '-C': flags.byHost,
    '-W': flags.outOfOrder,
    '-r': flags.rate,
    '--salvage': flags.salvage,
  };
  const [odd] = Object.entries(letters).find(([, given]) => given !== undefined) ?? [];
  if (odd !== undefined) throw new ImgfsError('usage', `--with-snapshots does not go with ${odd}`);
  if (sources.length > 1)
    throw new ImgfsError('usage', 'the snapshots of one image are copied: several cannot be joined');
}
