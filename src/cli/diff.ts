import fs from 'node:fs';
import type { Command } from 'commander';
import { type ChangedRange, diffDisks } from '../convert/diff.js';
import type { Image } from '../image/image.js';
import { snapshotNamed } from '../image/named-snapshot.js';
import { identityIfThere } from '../image/new-image.js';
import { type OpenedImage, openImage } from '../image/open.js';
import { endAs, Interrupted, interruptible } from './interruptible.js';
import { declareJsonOptions, type JsonFlags, wantsJson } from './json-option.js';
import { hintWhereMounted } from './mounted-hint.js';
import { declareOpenOptions, diskOptions, type OpenFlags } from './open-options.js';
import { Printer, warn } from './output.js';
import { declareProgress, type ProgressFlags, ProgressLine, showing } from './progress.js';
import type { Verb } from './verb.js';

interface DiffFlags extends JsonFlags, OpenFlags, ProgressFlags {
  readonly secondFormat?: string;
}

const ABOUT =
  'Prints each range in which the disks differ, sector by sector, and whether either holds only zeros there. ' +
  'IMAGE@SNAPSHOT is the disk as it was at a snapshot, by id or else by name; a file of that whole name goes before ' +
  'that. Exit status: 0 the same, 1 different, 2 for a failure.';

const CODES = { same: 0, different: 1, failure: 2 } as const;

/** `imgfs diff`: the ranges in which two disks differ. */
export const verb: Verb = {
  exitCodes: { usage: CODES.failure, system: CODES.failure, failure: CODES.failure },
  declare(command) {
    command
      .description(`${command.description()} ${ABOUT}`)
      .argument('<image[@snapshot]>', 'a disk')
      .argument('<other[@snapshot]>', 'the one it is compared with')
      .option('-F, --second-format <fmt>', 'the format of the other image, instead of looking');
    declareJsonOptions(command);
    declareProgress(command);
    command.option('-q, --quiet', 'print nothing: the exit status tells');
    declareOpenOptions(command, { letter: true });
  },
  async run(command: Command) {
    const flags = command.opts<DiffFlags>();
    const json = wantsJson(flags);
    const [name = '', otherName = ''] = command.args;
    const named = [parseName(name), parseName(otherName)] as const;
    const disks = new Disks(named, flags);
    try {
      return await diff(disks, json ? new JsonLines(named, disks) : new TextLines(), flags);
    } catch (error) {
      if (error instanceof Interrupted) endAs(error);
      throw error;
    } finally {
      disks.close();
    }
  },
};

async function diff(disks: Disks, lines: Lines, flags: DiffFlags): Promise<number> {
  const { first, second } = disks;
  if (first.size !== second.size) {
    warn(`the disks have ${first.size} and ${second.size} bytes; what one lacks counts as zeros`);
  }
  const line = new ProgressLine({ verb: 'diff', label: 'comparing', total: Math.max(first.size, second.size) }, flags);
  let code: number = CODES.same;
  const found = (range: ChangedRange): void => {
    code = CODES.different;
    if (flags.quiet === true) return;
    line.clear();
    lines.add(range);
  };
  try {
    await interruptible((run) => run(showing(diffDisks(first, second, found), line)));
  } finally {
    line.end();
  }
  if (flags.quiet !== true) lines.end();
  return code;
}

/** What the user calls a disk. */
interface Named {
  readonly path: string;
  readonly snapshot: string | undefined;
}

/** The longest beginning that is the name of a file; what follows an "@" then is a snapshot. */
function parseName(name: string): Named {
  for (let end = name.length; end > 0; end = name.lastIndexOf('@', end - 1)) {
    const path = name.slice(0, end);
    if (fs.existsSync(path)) return { path, snapshot: end === name.length ? undefined : name.slice(end + 1) };
  }
  return { path: name, snapshot: undefined };
}

/** Both disks; an image of which both are is opened once. */
class Disks {
  readonly first: Image;
  readonly second: Image;
  private readonly opened: Image[] = [];

  constructor([one, other]: readonly [Named, Named], flags: DiffFlags) {
    try {
      const options = diskOptions(flags);
      const format = flags.secondFormat;
      const first = this.open(one.path, () => openImage(one.path, options));
      this.first = this.state(first, one);
      const own = identityIfThere(one.path);
      const same =
        own !== undefined && own === identityIfThere(other.path) && (format ?? options.format) === options.format;
      const second = same ? first : this.open(other.path, () => openImage(other.path, { ...options, format }));
      this.second = this.state(second, other);
    } catch (error) {
      this.close();
      throw error;
    }
  }

  close(): void {
    for (const image of this.opened.splice(0).reverse()) image.close();
  }

  private open(path: string, open: () => OpenedImage): OpenedImage {
    const opened = hintWhereMounted(path, open);
    this.opened.push(opened.image);
    return opened;
  }

  private state(opened: OpenedImage, { snapshot }: Named): Image {
    if (snapshot === undefined) return opened.image;
    const past = opened.image.openSnapshot(snapshotNamed(opened, snapshot).id);
    this.opened.push(past);
    return past;
  }
}

/** How ranges are printed, each when it is found. */
interface Lines {
  add(range: ChangedRange): void;
  end(): void;
}

class TextLines implements Lines {
  private readonly printer = new Printer();
  private any = false;

  add({ start, length, first, second }: ChangedRange): void {
    if (!this.any) this.row('Offset', 'Length', 'First', 'Second');
    this.any = true;
    this.row(hexadecimal(start), hexadecimal(length), first, second);
  }

  end(): void {
    this.printer.end();
  }

  private row(start: string, length: string, first: string, second: string): void {
    this.printer.add(`${start.padEnd(16)}${length.padEnd(16)}${first.padEnd(8)}${second}\n`);
  }
}

class JsonLines implements Lines {
  private readonly printer = new Printer();
  private before = '\n';

  constructor(named: readonly [Named, Named], { first, second }: Pick<Disks, 'first' | 'second'>) {
    const disks = [first, second].map(({ size }, n) => ({
      filename: named[n]?.path,
      ...(named[n]?.snapshot === undefined ? {} : { snapshot: named[n]?.snapshot }),
      'virtual-size': size,
    }));
    this.printer.add(`{ "schema": "imgfs.diff/1", "disks": ${JSON.stringify(disks)}, "ranges": [`);
  }

  add(range: ChangedRange): void {
    this.printer.add(`${this.before}${JSON.stringify(range)}`);
    this.before = ',\n';
  }

  end(): void {
    this.printer.add('] }\n');
    this.printer.end();
  }
}

function hexadecimal(value: number): string {
  return value === 0 ? '0' : `0x${value.toString(16)}`;
}
