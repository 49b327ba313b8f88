/** Opens and reads every file of DIRECTORY between two marks that a recording of system calls can find: DIRECTORY */
import fs from 'node:fs';
import path from 'node:path';
import { formats } from '../../src/formats/index.js';
import { openImage } from '../../src/image/open.js';
import { libc } from '../../src/lib/libc.js';
import { outcome } from '../support/outcome.js';
import { MARKS } from './corpus.js';

const [directory] = process.argv.slice(2);
if (directory === undefined) throw new Error('which directory?');
openAll(directory);

function openAll(home: string): void {
  // What is loaded at first use is loaded now: the recording is about images.
  libc()?.seekEnd(fs.openSync('/dev/null', 'r'));
  const ends: Record<string, number> = {};
  const entries = fs.readdirSync(home, { withFileTypes: true });
  const names = entries.filter((entry) => entry.isFile()).map((entry) => entry.name);
  outcome(() => look(path.join(home, names[0] ?? '')));
  mark(MARKS.begin);
  for (const name of names) {
    const end = outcome(() => look(path.join(home, name)));
    ends[end] = (ends[end] ?? 0) + 1;
  }
  mark(MARKS.end);
  console.log(JSON.stringify(ends));
}

function mark(name: string): void {
  try {
    fs.openSync(name, 'r');
  } catch {
    // As intended.
  }
}

function look(file: string): void {
  const references = { follow: true, allowed: [] };
  const { image } = openImage(file, { formats, disk: 'first', references, forceShare: false, warn: () => {} });
  outcome(() => image.read(new Uint8Array(4096), 0));
  outcome(() => void image.extent(0, image.size));
  image.close();
}
