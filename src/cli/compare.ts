import type { Command } from 'commander';
import { compareDisks, type Difference } from '../convert/compare.js';
import { comparisonDocument, comparisonText } from '../convert/compare-text.js';
import type { ComparedDisk } from '../convert/side.js';
import type { Image } from '../image/image.js';
import { type OpenOptions, openImage } from '../image/open.js';
import { ImgfsError } from '../lib/errors.js';
import { jsonText } from '../lib/json-text.js';
import { declareSourceCache } from './cache-option.js';
import { endAs, Interrupted, interruptible } from './interruptible.js';
import { declareJsonOptions, type JsonFlags, wantsJson } from './json-option.js';
import { hintWhereMounted } from './mounted-hint.js';
import { declareDiskOption, declareOpenOptions, diskNumber, diskOptions, type OpenFlags } from './open-options.js';
import { print, reportError } from './output.js';
import { declareProgress, type ProgressFlags, ProgressLine, showing } from './progress.js';
import type { Verb } from './verb.js';

interface CompareFlags extends JsonFlags, OpenFlags, ProgressFlags {
  readonly secondFormat?: string;
  readonly secondDisk?: number;
  readonly strict?: true;
}

/** qemu-img's: 1 is also wrong usage. */
const CODES = { identical: 0, different: 1, notOpened: 2, notMapped: 3, notRead: 4 } as const;

type FailureCode = typeof CODES.notMapped | typeof CODES.notRead;

const EXIT_STATUS =
  `Exit status: ${CODES.identical} the same, ${CODES.different} different (or wrong usage), ${CODES.notOpened} an image ` +
  `cannot be opened, ${CODES.notMapped} or mapped, ${CODES.notRead} or read.`;

/** `imgfs compare`: whether two disks have the same content. Holes are compared without being read. */
export const verb: Verb = {
  exitCodes: { usage: 1, system: CODES.notOpened, failure: CODES.notOpened },
  declare(command) {
    command
      .description(`${command.description()} ${EXIT_STATUS}`)
      .argument('<image>', 'an image')
      .argument('<other>', 'the one it is compared with')
      .option('-F, --second-format <fmt>', 'the format of the other image, instead of looking')
      .option('-s, --strict', 'sizes must be equal, and which ranges are allocated');
    declareJsonOptions(command);
    declareProgress(command);
    command.option('-q, --quiet', 'print nothing: the exit status tells');
    declareSourceCache(command);
    declareOpenOptions(command, { letter: true });
    declareDiskOption(command);
    command.option('--second-disk <n>', 'which disk of the other appliance (1)', diskNumber);
  },
  async run(command: Command) {
    const flags = command.opts<CompareFlags>();
    const [path = '', other = ''] = command.args;
    const json = wantsJson(flags);
    return await withImages(path, other, flags, async (first, second) => {
      const total = Math.max(first.size, second.size);
      const line = new ProgressLine({ verb: 'compare', label: 'comparing', total }, flags);
      const watched = { first: new Watched(first), second: new Watched(second) };
      try {
        const difference = await compareThem(watched.first, watched.second, flags, line);
        line.clear();
        if (flags.quiet !== true) {
          const compared = { first, second, difference };
          print(json ? jsonText(comparisonDocument(compared)) : comparisonText(compared));
        }
        return difference === undefined ? CODES.identical : CODES.different;
      } catch (error) {
        line.clear();
        if (error instanceof Interrupted) endAs(error);
        const code = watched.first.failure ?? watched.second.failure;
        if (code === undefined || !(error instanceof ImgfsError)) throw error;
        reportError(error);
        return code;
      } finally {
        line.end();
      }
    });
  },
};

async function withImages(
  path: string,
  other: string,
  flags: CompareFlags,
  body: (first: Image, second: Image) => Promise<number>,
): Promise<number> {
  const options = diskOptions(flags);
  const first = open(path, options);
  try {
    const second = open(other, { ...options, format: flags.secondFormat, disk: flags.secondDisk ?? 'first' });
    try {
      return await body(first, second);
    } finally {
      second.close();
    }
  } finally {
    first.close();
  }
}

/** As for qemu-img, naming a format that nobody knows is a failure to open, not wrong usage. */
function open(path: string, options: OpenOptions): Image {
  try {
    return hintWhereMounted(path, () => openImage(path, options)).image;
  } catch (error) {
    if (!(error instanceof ImgfsError) || error.reason !== 'usage') throw error;
    const { message, hint } = error;
    throw new ImgfsError('unsupported', message, { ...(hint === undefined ? {} : { hint }), cause: error });
  }
}

async function compareThem(
  first: ComparedDisk,
  second: ComparedDisk,
  { strict }: CompareFlags,
  line: ProgressLine,
): Promise<Difference | undefined> {
  const steps = compareDisks(first, second, { strict: strict === true });
  return interruptible((run) => run(showing(steps, line)));
}

/** A disk that remembers in which way it failed: the exit status tells that. */
class Watched implements ComparedDisk {
  failure: FailureCode | undefined;

  constructor(private readonly image: Image) {}

  get size(): number {
    return this.image.size;
  }

  extent(at: number, length: number): ReturnType<Image['extent']> {
    return this.watch(CODES.notMapped, () => this.image.extent(at, length));
  }

  read(into: Uint8Array, at: number): void {
    this.watch(CODES.notRead, () => this.image.read(into, at));
  }

  private watch<T>(code: FailureCode, call: () => T): T {
    try {
      return call();
    } catch (error) {
      this.failure = code;
      throw error;
    }
  }
}
