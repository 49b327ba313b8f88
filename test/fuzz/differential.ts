/** The same bytes, read by us and by qemu-img. */
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import type { ImageFormat } from '../../src/image/format.js';
import type { Image } from '../../src/image/image.js';
import type { SampleFile } from '../../src/image/samples.js';
import { roundDown } from '../../src/lib/bits.js';
import { MemoryStorage } from '../../src/storage/memory.js';
import { failure } from '../support/outcome.js';
import { sampleContext } from '../support/samples.js';

/** QEMU cuts a disk to whole sectors and never looks at the rest. */
const SECTOR = 512;

/** Disks larger than this are compared by nobody. */
const LARGEST = 16 * 2 ** 20;

export type Verdict = 'equal' | 'different' | 'both refuse' | 'only we accept' | 'only QEMU accepts' | 'not compared';

export interface Comparison {
  readonly verdict: Verdict;
  /** What the one that refused said. */
  readonly said: string;
  /** Our reason, where we refused. */
  readonly reason?: string;
}

/** Reads `bytes` whole both ways, with the files they name beside them. Without qemu-img nothing is compared. */
export function compare(
  format: ImageFormat,
  bytes: Buffer,
  beside: readonly SampleFile[],
  directory: string,
): Comparison {
  let disk: Buffer | undefined;
  let tooLarge = false;
  const error = failure(() => {
    const image: Image = format.open(MemoryStorage.from(bytes, 'image'), sampleContext(beside));
    tooLarge = image.size > LARGEST;
    disk = Buffer.alloc(tooLarge ? 0 : roundDown(image.size, SECTOR));
    image.read(disk, 0);
    image.close();
  });
  if (tooLarge) return { verdict: 'not compared', said: 'too large' };
  for (const file of beside) fs.writeFileSync(path.join(directory, file.name), file.bytes());
  const qemu = readWithQemu(format, bytes, directory);
  if (qemu.disk === undefined && qemu.said === undefined) return { verdict: 'not compared', said: 'no answer' };
  if (error !== undefined) {
    const verdict = qemu.disk === undefined ? 'both refuse' : 'only QEMU accepts';
    return { verdict, said: error.message, reason: error.reason };
  }
  if (qemu.disk === undefined) return { verdict: 'only we accept', said: qemu.said ?? '' };
  return { verdict: disk?.equals(qemu.disk) === true ? 'equal' : 'different', said: '' };
}

function readWithQemu(format: ImageFormat, bytes: Buffer, directory: string): { disk?: Buffer; said?: string } {
  const [image, raw] = [path.join(directory, 'mutant'), path.join(directory, 'mutant.raw')];
  fs.writeFileSync(image, bytes);
  const size = spawnSync('qemu-img', ['info', '--output=json', '-f', format.name, image], {
    encoding: 'utf8',
    timeout: 10_000,
  });
  if (size.status === 0) {
    const virtual = (JSON.parse(size.stdout) as { 'virtual-size': number })['virtual-size'];
    if (virtual > LARGEST) return {};
  }
  const run = spawnSync('qemu-img', ['convert', '-q', '-f', format.name, '-O', 'raw', image, raw], {
    encoding: 'utf8',
    timeout: 10_000,
  });
  if (run.status === 0) return { disk: fs.readFileSync(raw) };
  return run.error === undefined && run.status !== null ? { said: run.stderr.trim() } : {};
}
