/** A process of its own that opens FILE, reads at each OFFSET, and prints what it cost: FILE [OFFSET...] */
import fs from 'node:fs';
import { formats } from '../../src/formats/index.js';
import { openImage } from '../../src/image/open.js';
import { libc } from '../../src/lib/libc.js';
import { outcome } from '../support/outcome.js';

/** What one run printed. */
export interface Measured {
  readonly opened: string;
  readonly reads: readonly string[];
  readonly snapshots: string;
  readonly size: number;
  /** Of the processor, not of the clock: what else the machine does meanwhile is not ours. */
  readonly milliseconds: number;
  /** Growth of the largest resident size the process has had, in MiB. */
  readonly grownMiB: number;
}

const [file = '', ...offsets] = process.argv.slice(2);
libc();
fs.statSync(file);
const before = process.resourceUsage().maxRSS;
const started = process.cpuUsage();
const reads: string[] = [];
let snapshots = '';
let size = 0;
const opened = outcome(() => {
  const references = { follow: true, allowed: [] };
  const { image } = openImage(file, { formats, references, forceShare: false, warn: () => {} });
  size = image.size;
  for (const offset of offsets) {
    const at = offset === 'end' ? image.size - 512 : Number(offset);
    reads.push(outcome(() => image.read(new Uint8Array(512), at)));
  }
  snapshots = outcome(() => void image.snapshots());
  outcome(() => void image.info.specific);
  image.close();
});
const { user, system } = process.cpuUsage(started);
const milliseconds = (user + system) / 1000;
const grownMiB = (process.resourceUsage().maxRSS - before) / 1024;
console.log(JSON.stringify({ opened, reads, snapshots, size, milliseconds, grownMiB } satisfies Measured));
