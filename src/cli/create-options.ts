/** `-o` of `imgfs create`: qemu-img's spelling of options, read by what a format declares. */
import type { CreateOption, Creation, OptionValue } from '../image/creation.js';
import { ImgfsError } from '../lib/errors.js';
import { meant } from '../lib/similar.js';
import { parseSize } from './sizes.js';
import { table } from './support-table.js';

/** What every format has, or every one that takes a backing file. */
const SIZE: CreateOption = {
  name: 'size',
  kind: 'size',
  summary: 'the size of the disk, where SIZE is left out',
  fallback: undefined,
};
const BACKING: readonly CreateOption[] = [
  { name: 'backing_file', kind: 'text', summary: 'what lies below the image, as -b', fallback: undefined },
  { name: 'backing_fmt', kind: 'text', summary: 'the format of that, as -F', fallback: undefined },
];

const ON: readonly string[] = ['on', 'yes', 'true', 'y'];
const OFF: readonly string[] = ['off', 'no', 'false', 'n'];
const PLACEHOLDERS: Readonly<Record<CreateOption['kind'], string>> = {
  size: 'SIZE',
  number: 'N',
  flag: 'on|off',
  choice: '',
  text: 'TEXT',
};

/** A format that declares options, or what is made by options as one. */
export interface Optioned {
  readonly name: string;
  readonly creation?: Pick<Creation, 'options' | 'backing'>;
}

/** All options an image of this format can be made with. */
function createOptionsOf({ creation }: Optioned): readonly CreateOption[] {
  return [SIZE, ...(creation?.backing === true ? BACKING : []), ...(creation?.options ?? [])];
}

/** Whether the user asks for the list of options. */
export function asksForHelp(lists: readonly string[]): boolean {
  return lists.some((list) => list === '?' || list.split(',').some((item) => item === 'help'));
}

/** The list of options, for `-o help`. */
export function createHelp(format: Optioned): string {
  const rows = createOptionsOf(format).map(({ name, kind, choices, summary, fallback }) => {
    const value = choices === undefined ? PLACEHOLDERS[kind] : choices.join('|');
    const usual = fallback === undefined ? '' : ` (${shown(fallback)})`;
    return [`  ${name}=${value}`, `${summary}${usual}`];
  });
  return `Options of ${format.name}, as -o NAME=VALUE,...:\n${table(rows)}`;
}

/**
 * The values in the lists a user gave, by name; where one is given twice the last counts. Throws `usage` for a name
 * the format does not have and a value the option does not.
 */
export function parseCreateOptions(lists: readonly string[], format: Optioned): ReadonlyMap<string, OptionValue> {
  const declared = createOptionsOf(format);
  const values = new Map<string, OptionValue>();
  for (const item of lists.flatMap(itemsOf)) {
    const [, name = '', text] = /^([^=]*)(?:=(.*))?$/s.exec(item) ?? [];
    const option = declared.find((candidate) => candidate.name === name);
    if (option === undefined) {
      const names = declared.map((candidate) => candidate.name);
      throw new ImgfsError('usage', `${format.name} images have no option "${name}"`, {
        hint: meant(name, names, `see imgfs create -f ${format.name} -o help`),
      });
    }
    values.set(name, read(option, text));
  }
  return values;
}

/** An option's value as it is written. */
export function shown(value: OptionValue): string {
  return typeof value === 'boolean' ? (value ? 'on' : 'off') : String(value);
}

/** A list's items: separated by single commas, two of which are one comma of a value. No argument holds a NUL. */
function itemsOf(list: string): readonly string[] {
  const items = list.replaceAll(',,', '\0').split(',');
  if (items.includes('')) {
    throw new ImgfsError('usage', `-o "${list}" is no list of options`, { hint: 'NAME=VALUE,NAME=VALUE' });
  }
  return items.map((item) => item.replaceAll('\0', ','));
}

function read({ name, kind, choices }: CreateOption, text: string | undefined): OptionValue {
  if (kind === 'flag') return flag(name, text ?? 'on');
  if (text === undefined || text === '') throw new ImgfsError('usage', `option ${name} needs a value: ${name}=...`);
  if (kind === 'size') return parseSize(text, name);
  if (kind === 'number') return number(name, text);
  if (choices !== undefined && !choices.includes(text)) {
    throw new ImgfsError('usage', `option ${name} cannot be "${text}"`, { hint: `it is ${choices.join(', ')}` });
  }
  return text;
}

function flag(name: string, text: string): boolean {
  if (ON.includes(text)) return true;
  if (OFF.includes(text)) return false;
  throw new ImgfsError('usage', `option ${name} cannot be "${text}"`, { hint: 'it is on or off' });
}

function number(name: string, text: string): number {
  const value = /^(?:0x[0-9a-f]+|\d+)$/i.test(text) ? Number(text) : Number.NaN;
  if (Number.isSafeInteger(value)) return value;
  throw new ImgfsError('usage', `option ${name} cannot be "${text}"`, { hint: 'it is a number' });
}
