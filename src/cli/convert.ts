import { extname } from 'node:path';
import type { Command } from 'commander';
import { NewAppliance } from '../appliance/new-appliance.js';
import { APPLIANCE } from '../appliance/options.js';
import type { BlockWork } from '../convert/block.js';
import { blockWork, type CopyOptions, copyDisk, type WrittenDisk } from '../convert/copy.js';
import { Crew } from '../convert/crew.js';
import type { JoinedDisk } from '../convert/joined.js';
import { Sources } from '../convert/sources.js';
import { formats } from '../formats/index.js';
import { OptionValues } from '../image/creation.js';
import { FilledImage } from '../image/filled-image.js';
import type { Format, ImageFormat } from '../image/format.js';
import { identityIfThere, type WantedBacking } from '../image/new-image.js';
import { type OpenedImage, type OpenOptions, openImage } from '../image/open.js';
import { formatNamed } from '../image/probe.js';
import { ImgfsError } from '../lib/errors.js';
import { type ConvertFlags, declareConvertOptions, sparseOf, threadsOf } from './convert-options.js';
import { asksForHelp, createHelp, type Optioned, parseCreateOptions } from './create-options.js';
import { endAs, Interrupted, interruptible } from './interruptible.js';
import { assertNotMounted, hintWhereMounted } from './mounted-hint.js';
import { backingWanted, creatable } from './new-images.js';
import { openOptions } from './open-options.js';
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

interface Request {
  readonly sources: readonly string[];
  readonly path: string;
  readonly format: string;
  readonly flags: ConvertFlags;
  readonly passphrases: GivenPassphrases;
}

async function convert(request: Request): Promise<void> {
  const { sources: paths, path, flags, passphrases } = request;
  const sparse = sparseOf(flags);
  const threads = threadsOf(flags);
  assertTogether(paths, flags);
  const settings = targetSettings(request);
  const options: OpenOptions = { ...openOptions(flags), passphrases };
  const open = (name: string): OpenedImage => hintWhereMounted(name, () => openImage(name, options));
  const sources = new Sources(paths, open, flags.snapshot);
  const line = new ProgressLine({ verb: 'convert', label: 'converting', total: sources.disk.size }, flags);
  try {
    const own = identityIfThere(path);
    if (own !== undefined && sources.identities().has(own)) {
      throw new ImgfsError('refused', `${path} is what would be read: a disk cannot be converted into itself`);
    }
    const { disk } = sources;
    await interruptible(async (run) => {
      const target = openTarget(request, settings, disk);
      try {
        if (flags.compress === true && target.disk.packing === undefined) {
          throw new ImgfsError('unsupported', `${path}: such an image stores nothing compressed`, {
            hint: 'leave out -c, or say -O qcow2',
          });
        }
        const copying: CopyOptions = {
          sparse,
          targetIsZero: target.isZero,
          topLayer: settings.backing !== undefined,
          byHost: flags.byHost === true,
          pack: flags.compress === true || target.disk.packing?.always === true,
          outOfOrder: flags.outOfOrder === true,
        };
        const work = blockWork(target.disk, copying);
        const crew = threads === 0 ? undefined : crewFor(sources, work, threads);
        try {
          const steps = copyDisk(disk, target.disk, copying, crew);
          await run(showing(steps, line));
        } finally {
          await crew?.end();
        }
        if (target.finish !== undefined) await run(target.finish());
      } catch (error) {
        target.discard();
        throw error;
      }
      target.complete();
    });
  } finally {
    line.end();
    sources.close();
  }
}

function crewFor(sources: Sources, work: BlockWork, count: number): Crew {
  return new Crew({ plans: sources.plans(), hostBytes: sources.hostBytes(), work, count });
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
  if (flags.compress === true && flags.byHost === true) {
    throw new ImgfsError('usage', '-C copies what lies there as it is, -c packs it: leave out one');
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

interface Settings {
  /** Undefined with -n. An appliance is made around an image of that format, and has the values. */
  readonly made: { readonly format: ImageFormat; readonly values: OptionValues } | undefined;
  readonly appliance?: true;
  /** What lies below the target, which is taken to be what lies below the source. */
  readonly backing: WantedBacking | undefined;
}

/** What the letters say of the target. Throws `usage` and `unsupported` before anything is opened. */
function targetSettings({ path, format: name, sources, flags }: Request): Settings {
  if (!flags.create) {
    const { backing: below } = flags;
    return { made: undefined, backing: below === undefined ? undefined : { name: below, format: 'raw', open: false } };
  }
  assertNotMounted(path);
  const appliance = name === APPLIANCE.name;
  const format = creatable(appliance ? 'vmdk' : name);
  const optioned = appliance ? APPLIANCE : format;
  const values = parseCreateOptions(flags.options ?? [], optioned);
  if (values.has('size')) warn('option size says nothing here: the target is as large as what it is made from');
  const backing = backingWanted(optioned, values, { name: flags.backing, format: flags.backingFormat, open: true });
  if (backing !== undefined && sources.length > 1) {
    throw new ImgfsError('usage', 'several sources lie above no one backing file: leave out backing_file');
  }
  const made = { format, values: new OptionValues(values) };
  return { made, backing, ...(appliance ? { appliance } : {}) };
}

/** Where the copy goes. Either of the last two is called, once. */
interface Target {
  readonly disk: WrittenDisk;
  /** Everywhere. */
  readonly isZero: boolean;
  /** What is left to do when all is written, in steps. */
  finish?(): Iterable<number>;
  /** All is there and durable. */
  complete(): void;
  /** It ended too early. */
  discard(): void;
}

function openTarget(request: Request, { made, backing, appliance }: Settings, { size, end }: JoinedDisk): Target {
  if (made === undefined) return openThere(request, end, backing !== undefined);
  const { path, flags } = request;
  const references = { follow: flags.refs, allowed: flags.allowRefs ?? [] };
  if (appliance === true) {
    const target = new NewAppliance({ path, ...made, size, references, formats, warn });
    return {
      disk: target.image,
      isZero: true,
      finish: () => target.finish(),
      complete: () => target.appear(),
      discard: () => target.discard(),
    };
  }
  const target = new FilledImage({
    path,
    ...made,
    size,
    backing,
    passphrase: () => {
      throw new ImgfsError('unsupported', `${path}: encrypted images cannot be made by convert yet`, {
        hint: 'make it with create, then convert with -n',
      });
    },
    references,
    formats,
    warn,
  });
  return {
    disk: target.image,
    isZero: backing === undefined,
    complete: () => target.appear(),
    discard: () => target.discard(),
  };
}

/** With -n: the target is there already, and is what it was until it is written. */
function openThere({ path, format, flags, passphrases }: Request, size: number, above: boolean): Target {
  const write = { references: flags.writableRefs === true, direct: false, unsafe: false, threads: false };
  const options = { ...openOptions(flags), forceShare: false, format, passphrases, write };
  const { image } = hintWhereMounted(path, () => openImage(path, options));
  const refuse = (why: string): never => {
    image.close();
    throw new ImgfsError('refused', `${path} ${why}`);
  };
  if (image.size < size) refuse(`has ${image.size} bytes: the source has ${size}`);
  if (above && image.backing === undefined) refuse('has no backing file');
  const isZero = flags.targetIsZero === true;
  if (isZero && image.backing !== undefined) refuse('has a backing file: it is not known to be zeros');
  return {
    disk: image,
    isZero,
    complete() {
      try {
        image.flush();
      } finally {
        image.close();
      }
    },
    discard() {
      try {
        image.close();
      } catch {
        // The first failure is the one to report.
      }
    },
  };
}
