/** The addon hands out and takes back a piece of libfuse's memory per request: many of them, and nothing may be left. */
import { existsSync, readFileSync } from 'node:fs';
import { expect } from 'chai';
import { fuseNative } from '../../../src/fuse/fuse-native/index.js';
import { Mounted, mountpoint, program } from '../../support/mounted.js';
import { fillPattern } from '../../support/served.js';

const MODULE = new URL('../../../src/fuse/fuse-native/index.js', import.meta.url).href;
const REQUESTS = 120_000;
const JOBS = 4;

function obstacle(): string | undefined {
  if (process.geteuid?.() !== 0) return 'not root';
  if (!existsSync('/usr/bin/fio')) return 'no fio';
  return fuseNative.unavailable();
}

const missing = obstacle();

function residentMiB(pid: number): number {
  const [, kilobytes] = /^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8')) ?? [];
  return Number(kilobytes) / 1024;
}

describe(`fuse-native for long${missing === undefined ? '' : ` (skipped: ${missing})`}`, function () {
  this.timeout(60_000);

  it(`answers ${REQUESTS} requests from ${JOBS} threads and keeps nothing`, async function () {
    if (missing !== undefined) this.skip();
    const at = mountpoint('directory');
    const mounted = await Mounted.start(MODULE, 'fuseNative', { mountpoint: at.path });
    try {
      const file = `${at.path}/big.raw`;
      const soak = async (ios: number): Promise<number> => {
        const load = [`--number_ios=${ios}`, '--size=6g', '--rw=randread', '--direct=1', '--bs=4k', '--ioengine=psync'];
        const shape = ['--name=soak', `--filename=${file}`, `--numjobs=${JOBS}`, '--thread', '--group_reporting'];
        const { stdout } = await program('fio', ...shape, ...load, '--output-format=json');
        const report = JSON.parse(stdout.toString()) as { jobs: { error: number; read: { total_ios: number } }[] };
        expect(report.jobs[0]?.error).to.equal(0);
        return report.jobs[0]!.read.total_ios;
      };
      await soak(2500);
      const before = residentMiB(mounted.process.pid!);
      let done = 0;
      while (done < REQUESTS) done += await soak(10_000);
      expect(residentMiB(mounted.process.pid!) - before).to.be.below(40);
      const sample = await program('dd', `if=${file}`, 'bs=1M', 'count=1', 'skip=5555', 'status=none');
      const expected = Buffer.alloc(2 ** 20);
      fillPattern(expected, 5555 * 2 ** 20);
      expect(sample.stdout.equals(expected)).to.equal(true);
      expect(await mounted.unmount(false)).to.equal('ok');
      expect(await mounted.exited).to.equal(0);
    } finally {
      await mounted.clear();
      at.remove();
    }
  });
});
