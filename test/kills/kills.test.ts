/** A server that is killed while it is written to, as often as IMGFS_KILLS says. */
import { type ChildProcess, spawn } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect } from 'chai';
import { kernel } from '../../src/fuse/kernel/index.js';
import { eventually, isRunning, needsRoot, place, unless } from '../support/place.js';
import { imgfs, must, run } from '../support/program.js';
import { needsTool, qemuBytes, qemuImg, qemuIo } from '../support/qemu.js';
import { Random } from '../support/seed.js';

const MIB = 1024 * 1024;
const SECTOR = 4096;
const KILLS = Number(process.env.IMGFS_KILLS ?? 25);

describe('a server that is killed', function () {
  this.timeout(60_000 + KILLS * 20_000);
  needsRoot();
  unless(kernel.unavailable());
  needsTool('qemu-img', 'qemu-io');
  const here = place();

  /** Writes rounds of numbered sectors, fsyncs each round, and tells on its standard output which are safe. */
  const WRITER = `
    const fs = require('node:fs');
    const fd = fs.openSync(process.argv[1], 'r+');
    let sequence = Number(process.argv[2]);
    for (;;) {
      sequence += 1;
      const sectors = Array.from({ length: 12 }, (_, n) => (sequence * 2654435761 + n * 40503) % 4096);
      const bytes = Buffer.alloc(${SECTOR});
      for (const sector of sectors) {
        bytes.writeUInt32LE(sequence, 0);
        bytes.writeUInt32LE(sector, 4);
        fs.writeSync(fd, bytes, 0, bytes.length, sector * ${SECTOR});
      }
      fs.fsyncSync(fd);
      fs.writeSync(1, JSON.stringify({ sequence, sectors }) + '\\n');
    }`;

  it(`loses nothing that an fsync was answered for when it is killed, ${KILLS} times`, async () => {
    const base = here.path('base.qcow2');
    qemuImg('create', '-q', '-f', 'qcow2', base, '16M');
    qemuIo(base, ['write -P 9 0 16M']);
    const file = here.path('disk.qcow2');
    qemuImg('create', '-q', '-f', 'qcow2', '-b', base, '-F', 'qcow2', file);
    const safe = new Map<number, number>();
    const random = new Random();
    let sequence = 0;
    for (let kill = 0; kill < KILLS; kill++) {
      const at = here.mountToWrite(file, '--adapter=kernel');
      const { pid } = here.record(at);
      const writer = start(path.join(at, 'disk.raw'), sequence);
      let said = '';
      writer.stdout?.on('data', (chunk: Buffer) => {
        said += chunk.toString();
      });
      await eventually('something is safe', () => said.includes('\n'));
      await sleep(random.below(120));
      process.kill(pid, 'SIGKILL');
      await eventually('the server is gone', () => !isRunning(pid));
      await eventually('the writer has failed', () => writer.exitCode !== null);
      must('umount', '-l', at);
      for (const line of said.split('\n').slice(0, -1)) {
        const round = JSON.parse(line) as { sequence: number; sectors: readonly number[] };
        for (const sector of round.sectors) safe.set(sector, round.sequence);
        sequence = Math.max(sequence, round.sequence);
      }
      // Rounds that nobody was told of may be there, in part.
      sequence += 1;
      const { code } = run('qemu-img', ['check', '-q', file]);
      expect(code, 'sound, or clusters leaked').to.be.oneOf([0, 3]);
      const disk = qemuBytes(file, '-f', 'qcow2');
      for (const [sector, least] of safe) {
        expect(disk.readUInt32LE(sector * SECTOR), `sector ${sector}`).to.be.at.least(least);
        expect(disk.readUInt32LE(sector * SECTOR + 4)).to.equal(sector);
      }
    }
    const at = here.mountToWrite(file, '--adapter=kernel');
    expect(fs.readFileSync(path.join(at, 'disk.raw')).length).to.equal(16 * MIB);
    expect(imgfs('umount', at).code).to.equal(0);
  });

  function start(view: string, sequence: number): ChildProcess {
    return spawn(process.execPath, ['-e', WRITER, view, String(sequence)], { stdio: ['ignore', 'pipe', 'ignore'] });
  }
});
