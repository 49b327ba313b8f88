/** What the verbs that make images have in common: which formats can be made, what lies below. */
import { formats } from '../formats/index.js';
import type { OptionValue } from '../image/creation.js';
import type { ImageFormat } from '../image/format.js';
import type { WantedBacking } from '../image/new-image.js';
import { formatNamed } from '../image/probe.js';
import { ImgfsError } from '../lib/errors.js';
import type { Optioned } from './create-options.js';

/** The format of that name. Throws `usage` for one that nobody knows, `unsupported` for one that cannot be made. */
export function creatable(name: string): ImageFormat {
  const format = formatNamed(formats, name);
  if (format.kind === 'image' && format.creation !== undefined) return format;
  const those = formats.filter((candidate) => candidate.kind === 'image' && candidate.creation !== undefined);
  throw new ImgfsError('unsupported', `${name} images cannot be made yet`, {
    hint: `imgfs makes ${those.map((candidate) => candidate.name).join(', ')}`,
  });
}

/** What the command line says of a backing file, in letters of its own. */
export interface NamedBacking {
  readonly name: string | undefined;
  readonly format: string | undefined;
  readonly open: boolean;
}

/** What shall lie below a new image: named by letters, or by options of the format. Undefined for nothing. */
export function backingWanted(
  { name: own, creation }: Optioned,
  values: ReadonlyMap<string, OptionValue>,
  named: NamedBacking,
): WantedBacking | undefined {
  const name = named.name ?? values.get('backing_file');
  const format = named.format ?? values.get('backing_fmt');
  if (name === undefined && format === undefined) return undefined;
  if (creation?.backing !== true) throw new ImgfsError('unsupported', `${own} images have no backing file`);
  if (name === undefined) throw new ImgfsError('usage', '-F says the format of a backing file: name it too');
  if (name === '') throw new ImgfsError('usage', 'the name of the backing file is empty');
  if (format === undefined) {
    throw new ImgfsError('usage', `the format of the backing file "${name}" is not given`, {
      hint: 'say it with -F: a guest that could write it must not decide it',
    });
  }
  return { name: String(name), format: formatNamed(formats, String(format)).name, open: named.open };
}
