/** Writes what is made from the program into the README, between its markers: the support table, the differences. */
import fs from 'node:fs';
import path from 'node:path';
import { supportTable } from '../src/cli/support-table.js';
import { formats } from '../src/formats/index.js';
import { differenceList } from '../test/differential/difference-list.js';

const README = path.resolve(import.meta.dirname, '../../README.md');
const PARTS: Readonly<Record<string, string>> = { formats: supportTable(formats), differences: differenceList() };

let text = fs.readFileSync(README, 'utf8');
for (const [name, made] of Object.entries(PARTS)) {
  const between = new RegExp(`(<!-- ${name}:[^\\n]*-->\\n)[\\s\\S]*?(\\n<!-- end of ${name} -->)`);
  if (!between.test(text)) throw new Error(`the README has lost its markers of ${name}`);
  text = text.replace(between, (_, open: string, close: string) => `${open}\n${made}${close}`);
}
fs.writeFileSync(README, text);
