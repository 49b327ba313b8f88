import type { Command } from 'commander';
import { type Extent, extents } from '../image/image.js';
import type { OpenedImage } from '../image/open.js';
import { printable } from '../lib/errors.js';
import { declareJsonOptions, type JsonFlags, wantsJson } from './json-option.js';
import { declareDiskOption, declareOpenOptions, diskOptions, type OpenFlags, openToLook } from './open-options.js';
import { Printer } from './output.js';
import { parseSize } from './sizes.js';
import { QEMU_IMG_CODES, type Verb } from './verb.js';

interface MapFlags extends JsonFlags, OpenFlags {
  readonly startOffset?: number;
  readonly maxLength?: number;
}

/** `imgfs map`: where each range of the disk comes from. */
export const verb: Verb = {
  exitCodes: QEMU_IMG_CODES,
  declare(command) {
    command
      .argument('<image>', 'the image')
      .option('-s, --start-offset <size>', 'begin there', (text) => parseSize(text, 'start offset'))
      .option('-l, --max-length <size>', 'map no more than that', (text) => parseSize(text, 'length'));
    declareJsonOptions(command);
    declareOpenOptions(command, { letter: true });
    declareDiskOption(command);
  },
  run(command: Command) {
    const flags = command.opts<MapFlags>();
    const [path = ''] = command.args;
    const json = wantsJson(flags);
    const opened = openToLook(path, diskOptions(flags));
    try {
      const { size } = opened.image;
      const start = Math.min(flags.startOffset ?? 0, size);
      const found = extents(opened.image, start, Math.min(flags.maxLength ?? size, size - start));
      if (json) printJson(found, flags.startOffset ?? 0);
      else printTable(found, opened);
    } finally {
      opened.image.close();
    }
    return 0;
  },
};

/** One line for each extent: the text qemu-img prints, to the space. A map of nothing is one of no length. */
function printJson(found: Iterable<Extent>, start: number): void {
  const printer = new Printer();
  let before = '[';
  for (const extent of found) {
    printer.add(`${before}${jsonLine(extent)}`);
    before = ',\n';
  }
  if (before === '[') printer.add(`[${jsonLine({ ...NOTHING, start })}`);
  printer.add(']\n');
  printer.end();
}

const NOTHING = { length: 0, depth: 0, present: false, zero: false, data: false, compressed: false } as const;

function jsonLine({ start, length, depth, present, zero, data, offset, compressed }: Extent): string {
  const place = offset === undefined ? '' : `, "offset": ${offset}`;
  return (
    `{ "start": ${start}, "length": ${length}, "depth": ${depth}, "present": ${present}, ` +
    `"zero": ${zero}, "data": ${data}${place}${compressed ? ', "compressed": true' : ''}}`
  );
}

/** Only what is stored. Where qemu-img gives up (ranges that lie nowhere as they are), a word stands for the place. */
function printTable(found: Iterable<Extent>, { chain }: OpenedImage): void {
  const printer = new Printer();
  printer.add(row('Offset', 'Length', 'Mapped to', 'File'));
  for (const extent of found) {
    if (!extent.data || extent.zero) continue;
    const { start, length, depth, offset, storage } = extent;
    const place = offset === undefined ? (extent.compressed ? 'compressed' : 'encoded') : hexadecimal(offset);
    printer.add(
      row(hexadecimal(start), hexadecimal(length), place, printable(storage?.name ?? chain[depth]?.name ?? '')),
    );
  }
  printer.end();
}

function row(...[start, length, place, file]: readonly [string, string, string, string]): string {
  return `${start.padEnd(16)}${length.padEnd(16)}${place.padEnd(16)}${file}\n`;
}

function hexadecimal(value: number): string {
  return value === 0 ? '0' : `0x${value.toString(16)}`;
}
