import fs from 'node:fs';
import { Worker } from 'node:worker_threads';
import { expect } from 'chai';
import { Sharing } from '../../../src/image/sharing.js';
import type { OpenFile } from '../../../src/storage/file.js';
import { readAll } from '../../support/images.js';
import { needsTool, qemuImg } from '../../support/qemu.js';
import { scratch } from '../../support/scratch.js';
import { SEED } from '../../support/seed.js';
import { expectClean, expectDisk } from '../../support/written.js';
import { type Crowd, openShared, SECTOR } from './crowd.js';

const SIZE = 4 * 1024 * 1024;
const THREADS = 4;
const STEPS = 1200;

async function run(crowd: Crowd, number: number): Promise<void> {
  const worker = new Worker(new URL('./crowd.js', import.meta.url), {
    workerData: { ...crowd, number, seed: SEED + number, steps: STEPS },
    stdout: true,
  });
  const wrong = await new Promise<string | undefined>((resolve, reject) => {
    worker.once('message', resolve);
    worker.once('error', reject);
  });
  await worker.terminate();
  expect(wrong, `thread ${number}`).to.equal(undefined);
}

describe('qcow2, written by many threads', function () {
  this.timeout(60_000);
  needsTool('qemu-img');
  const files = scratch();

  for (const options of [
    'cluster_size=64k',
    'cluster_size=512',
    'cluster_size=16k,extended_l2=on',
    'cluster_size=4k',
  ]) {
    it(`never shows a thread a stale table, nor loses a neighbour (${options})`, async () => {
      const [path, base] = [files.path('image'), files.path('base')];
      const model = new SharedArrayBuffer((SIZE / SECTOR) * 4);
      new Int32Array(model).fill(0x77777777);
      fs.rmSync(path, { force: true });
      fs.writeFileSync(base, Buffer.alloc(SIZE, 0x77));
      qemuImg('create', '-q', '-f', 'qcow2', '-o', options, '-b', base, '-F', 'raw', path, String(SIZE));
      const opened = (name: string, flags: string): OpenFile => {
        const fd = fs.openSync(name, flags);
        return { fd, name, size: fs.fstatSync(fd).size, writable: flags !== 'r' };
      };
      const [file, below] = [opened(path, 'r+'), opened(base, 'r')];
      const crowd = { file, base: below, sharing: new Sharing().buffer, model, threads: THREADS };
      try {
        await Promise.all(Array.from({ length: THREADS }, (_, number) => run(crowd, number)));
        const disk = Buffer.alloc(SIZE);
        new Int32Array(model).forEach((word, n) => {
          for (let at = n * SECTOR; at < (n + 1) * SECTOR; at += 4) disk.writeInt32LE(word, at);
        });
        const image = openShared(crowd);
        expect(readAll(image).equals(disk)).to.equal(true);
        image.close();
        expectClean(path);
        expectDisk(path, disk);
      } finally {
        fs.closeSync(file.fd);
        fs.closeSync(below.fd);
      }
    });
  }
});
