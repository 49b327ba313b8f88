/** Writes the support table, made from the formats, into the README between its markers. */
import fs from 'node:fs';
import path from 'node:path';
import { supportTable } from '../src/cli/support-table.js';
import { formats } from '../src/formats/index.js';

const README = path.resolve(import.meta.dirname, '../../README.md');
const between = /(<!-- formats:[^\n]*-->\n)[\s\S]*?(\n<!-- end of formats -->)/;

const text = fs.readFileSync(README, 'utf8');
if (!between.test(text)) throw new Error('the README has lost its markers');
fs.writeFileSync(
  README,
  text.replace(between, (_, open: string, close: string) => `${open}\n${supportTable(formats)}${close}`),
);
