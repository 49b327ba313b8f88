import type { Command } from 'commander';
import { formats } from '../formats/index.js';
import type { Format } from '../image/format.js';
import { print } from './output.js';
import { abilities, table } from './support-table.js';
import { OWN_CODES, type Verb } from './verb.js';

/** `imgfs formats`: what can be opened, and what is only known by name. */
export const verb: Verb = {
  exitCodes: OWN_CODES,
  declare(command) {
    command.option('--json', 'print JSON');
  },
  run(command: Command) {
    const { json } = command.opts<{ json?: true }>();
    print(json === true ? `${JSON.stringify(asDocument(formats), undefined, 4)}\n` : asText(formats));
    return 0;
  },
};

function asDocument(all: readonly Format[]): object {
  return {
    schema: 'imgfs.formats/1',
    formats: all.map((format) => ({
      name: format.name,
      summary: format.summary,
      extensions: format.extensions,
      can: { read: format.kind !== 'known', ...(format.kind === 'image' ? format.can : {}) },
    })),
  };
}

function asText(all: readonly Format[]): string {
  const rows = all.map((format) => [
    format.name,
    format.kind === 'known' ? 'recognised only' : abilities(format).join(' '),
    format.extensions.join(' '),
    format.summary,
  ]);
  return table([['FORMAT', 'CAN', 'NAMES', 'WHAT IT IS'], ...rows]);
}
