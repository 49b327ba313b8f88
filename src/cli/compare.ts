import type { Command } from 'commander';
import { type ComparedDisk, compareDisks, type Difference } from '../convert/compare.js';
import { comparisonDocument, comparisonText } from '../convert/compare-text.js';
import type { Image } from '../image/image.js';
import { type OpenOptions, openImage } from '../image/open.js';
import { ImgfsError } from '../lib/errors.js';
import { jsonText } from '../lib/json-text.js';
import { declareJsonOptions, type JsonFlags, wantsJson } from './json-option.js';
import { hintWhereMounted } from './mounted-hint.js';
import { declareDiskOption, declareOpenOptions, diskNumber, type OpenFlags, openOptions } from './open-options.js';
import { print, reportError } from './output.js';
import { AT_ONCE, ProgressLine } from './progress.js';
import type { Verb } from './verb.js';

interface CompareFlags extends JsonFlags, OpenFlags {
  readonly secondFormat?: string;
  readonly secondDisk?: number;
  readonly strict?: true;
  readonly progress?: true;
  readonly quiet?: true;
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
    command
      .option('-p, --progress', 'show how far it is at once, not after a second (on a terminal only)')
      .option('-q, --quiet', 'print nothing: the exit status tells');
    declareOpenOptions(command, { letter: true });
    declareDiskOption(command);
    command.option('--second-disk <n>', 'which disk of the other appliance (1)', diskNumber);
  },
  run(command: Command) {
    const flags = command.opts<CompareFlags>();
    const [path = '', other = ''] = command.args;
    const json = wantsJson(flags);
    return withImages(path, other, flags, (first, second) => {
      const watched = { first: new Watched(first), second: new Watched(second) };
      try {
        const difference = compareThem(watched.first, watched.second, flags);
        if (flags.quiet !== true) {
          const compared = { first, second, difference };
          print(json ? jsonText(comparisonDocument(compared)) : comparisonText(compared));
        }
        return difference === undefined ? CODES.identical : CODES.different;
      } catch (error) {
        const code = watched.first.failure ?? watched.second.failure;
        if (code === undefined || !(error instanceof ImgfsError)) throw error;
        reportError(error);
        return code;
      }
    });
  },
};

function withImages(
  path: string,
  other: string,
  flags: CompareFlags,
  body: (first: Image, second: Image) => number,
): number {
  const options = openOptions(flags);
  const first = open(path, options);
  try {
    const second = open(other, { ...options, format: flags.secondFormat, disk: flags.secondDisk });
    try {
      return body(first, second);
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

function compareThem(first: ComparedDisk, second: ComparedDisk, flags: CompareFlags): Difference | undefined {
  const line = new ProgressLine('comparing', undefined, flags.progress === true ? AT_ONCE : undefined);
  try {
    return compareDisks(first, second, {
      strict: flags.strict === true,
      progress: (part) => {
        if (flags.quiet !== true) line.show(part);
      },
    });
  } finally {
    line.clear();
  }
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
