/** Threads that have one writable image open: all write the same clusters, and nobody may ever see a stale table. */
import fs from 'node:fs';
import { Worker } from 'node:worker_threads';
import { expect } from 'chai';
import { SampleImage, type SampleOptions } from '../../src/formats/qcow2/samples/image.js';
import { Sharing } from '../../src/image/sharing.js';
import { countedLazily } from '../crash/starts.js';
import { readAll } from '../support/images.js';
import { hasTool, scratch } from '../support/scratch.js';
import { SEED } from '../support/seed.js';
import { expectClean } from '../support/written.js';
import { type Member, numbersIn, openShared, SECTOR, type Stress } from './member.js';
import { Register } from './register.js';

const SIZE = 512 * 1024;
const THREADS = 4;
const STEPS = Number(process.env.IMGFS_STRESS_STEPS ?? 1500);

async function thread(member: Member): Promise<string | undefined> {
  const worker = new Worker(new URL('./member.js', import.meta.url), { workerData: member, stdout: true });
  const wrong = await new Promise<string | undefined>((resolve, reject) => {
    worker.once('message', resolve);
    worker.once('error', reject);
  });
  await worker.terminate();
  return wrong;
}

/** Runs all threads over a fresh image; what they saw wrong, and what is wrong with the image at the end. */
async function stress(path: string, options: Omit<SampleOptions, 'size'>, deaf: boolean): Promise<readonly string[]> {
  const recipe = new SampleImage({ ...options, size: SIZE });
  if (options.dirty === true) recipe.write(0, new Uint8Array(SIZE / 2));
  const bytes = Buffer.from(recipe.build());
  fs.writeFileSync(path, options.dirty === true ? countedLazily(bytes) : bytes);
  const fd = fs.openSync(path, 'r+');
  try {
    const register = new Register(SIZE / SECTOR);
    const shared: Stress = {
      format: 'qcow2',
      file: { fd, name: path, size: fs.fstatSync(fd).size, writable: true },
      sharing: new Sharing().buffer,
      register: register.buffer,
      sectors: register.sectors,
      unit: 2 ** (options.clusterBits ?? 16),
      deaf,
    };
    const members = Array.from({ length: THREADS }, (_, number) => ({ number, seed: SEED + number, steps: STEPS }));
    const wrong = await Promise.all(members.map((member) => thread({ ...shared, ...member })));
    return [...wrong.filter((one) => one !== undefined), ...atEnd(shared, register)];
  } finally {
    fs.closeSync(fd);
  }
}

function atEnd(shared: Stress, register: Register): readonly string[] {
  try {
    const image = openShared(shared);
    const disk = readAll(image);
    image.close();
    const wrong = Array.from({ length: register.sectors }, (_, n) =>
      register.reading(n, () => numbersIn(disk, n * SECTOR)),
    );
    return wrong.filter((one) => one !== undefined).map((one) => `at the end: ${one}`);
  } catch (error) {
    return [`at the end: ${error}`];
  }
}

describe('an image shared by threads', function () {
  this.timeout(600_000);
  const files = scratch();

  const variants: readonly (readonly [string, Omit<SampleOptions, 'size'>])[] = [
    ['64 KiB', {}],
    ['4 KiB', { clusterBits: 12 }],
    ['512 B', { clusterBits: 9 }],
    ['subclusters', { clusterBits: 14, extended: true }],
    ['4 KiB, to be repaired first', { clusterBits: 12, dirty: true, lazyRefcounts: true }],
  ];
  for (const [name, options] of variants) {
    it(`shows every thread what the others wrote: ${name}`, async () => {
      const path = files.path('image');
      const wrong = await stress(path, options, false);
      expect(wrong.slice(0, 5), `IMGFS_SEED=${SEED}\n${wrong.slice(0, 5).join('\n')}\n`).to.deep.equal([]);
      if (hasTool('qemu-img')) expectClean(path);
    });
  }

  it('is seen to go wrong where threads do not hear of changes', async () => {
    const wrong = await stress(files.path('deaf'), { clusterBits: 12 }, true);
    expect(wrong).to.not.deep.equal([]);
    console.log(`      for example: ${wrong[0]?.split('\n')[0]}`);
  });
});
