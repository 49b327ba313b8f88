/** Damaged images: what is whole can be read, what is not is EIO, at once and without using up the machine. */
import fs from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { brokenSamples } from '../../src/formats/qcow2/samples/catalogue.js';
import { fromDisks } from '../../src/formats/qcow2/samples/image.js';
import { forEachAdapter } from '../support/adapters.js';
import { isRunning, place } from '../support/place.js';
import { imgfs, run } from '../support/program.js';

const CLUSTER = 65536;
const MORE_MEMORY_KIB = 128 * 1024;
const PATIENCE_MS = 2000;

/** What a process has used at most, in KiB. */
function peak(pid: number): number {
  return Number(/VmHWM:\s+(\d+)/.exec(fs.readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]);
}

/** Reads all of a file cluster by cluster: `+` for each that can be read, `-` for each that is EIO. */
function readable(file: string): string {
  const fd = fs.openSync(file, 'r');
  const into = Buffer.alloc(CLUSTER);
  let found = '';
  for (let at = 0; at < fs.fstatSync(fd).size; at += CLUSTER) {
    try {
      fs.readSync(fd, into, 0, CLUSTER, at);
      found += '+';
    } catch (error) {
      expect(String(error)).to.include('EIO');
      found += '-';
    }
  }
  fs.closeSync(fd);
  return found;
}

forEachAdapter('a damaged image', (_, option) => {
  const here = place();

  it('is EIO where it is damaged, and whole everywhere else', () => {
    const image = Buffer.from(fromDisks([{ disk: Buffer.alloc(8 * CLUSTER, 'data') }]));
    const l1At = Number(image.readBigUInt64BE(40));
    const l2At = Number(image.readBigUInt64BE(l1At) % 2n ** 62n);
    // Into the middle of a cluster, and into the header.
    image.writeBigUInt64BE(2n ** 63n + 512n + 5n * 65536n, l2At + 2 * 8);
    image.writeBigUInt64BE(2n ** 63n + 1n * 512n, l2At + 5 * 8);
    const view = path.join(here.mount(here.file('entries.qcow2', image), '-r', option), 'disk.raw');
    expect(readable(view)).to.equal('++-++-++');
    expect(run('dd', [`if=${view}`, 'of=/dev/null', 'bs=1M']).stderr).to.include('Input/output error');
  });

  it('is EIO as a whole where a table lies nowhere, and others of the mount are not', () => {
    const good = fromDisks([{ disk: Buffer.alloc(4 * CLUSTER, 'good') }]);
    const bad = Buffer.from(good);
    bad.writeBigUInt64BE(2n ** 63n + 2n ** 40n, Number(bad.readBigUInt64BE(40)));
    const at = here.mount([here.file('bad.qcow2', bad), here.file('good.qcow2', good)], '-r', option);
    expect(readable(path.join(at, 'bad/disk.raw'))).to.equal('----');
    expect(readable(path.join(at, 'good/disk.raw'))).to.equal('++++');
  });

  it('costs little time and memory, whatever is wrong with it', function () {
    this.timeout(120_000);
    const samples = brokenSamples().filter(({ fails }) => fails !== 'open');
    const images = samples.map(({ image }, n) => here.file(`broken-${n}.qcow2`, image));
    const idle = here.mount(here.file('idle.img', Buffer.alloc(512)), '-r', option);
    // One that cannot even be mounted says so; the rest are mounted together.
    const mountable = images.filter((image) => {
      const { code, stderr } = imgfs('info', image);
      expect(stderr.split('\n').length).to.be.at.most(2);
      return code === 0;
    });
    const at = here.mount(mountable, '-r', option);
    const { pid } = here.record(at);
    for (const name of (fs.readdirSync(at, { recursive: true }) as string[]).filter((entry) =>
      entry.endsWith('.raw'),
    )) {
      const start = performance.now();
      run('dd', [`if=${path.join(at, name)}`, 'of=/dev/null', 'bs=64k', 'count=64', 'conv=noerror']);
      expect(performance.now() - start, name).to.be.below(PATIENCE_MS);
    }
    expect(isRunning(pid)).to.equal(true);
    expect(peak(pid)).to.be.below(peak(here.record(idle).pid) + MORE_MEMORY_KIB);
  });
});
