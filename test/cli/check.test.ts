import { spawn, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import { expect } from 'chai';
import { formats } from '../../src/formats/index.js';
import { check } from '../../src/formats/qcow2/check/check.js';
import { goodSamples } from '../../src/formats/qcow2/samples/catalogue.js';
import type { Repair } from '../../src/image/check.js';
import { checkDocument, checkText } from '../../src/image/check-text.js';
import { type Examined, examineImage } from '../../src/image/examine.js';
import { drained } from '../../src/lib/steps.js';
import { MemoryStorage } from '../../src/storage/memory.js';
import { damage, damageable, damageRefcounts } from '../support/damage.js';
import { closedContext } from '../support/images.js';
import { MAIN, type Run } from '../support/imgfs.js';
import { needsTool, qemuImg, qemuIo } from '../support/qemu.js';
import { QemuSession } from '../support/qemu-session.js';
import { imgfs } from '../support/resident.js';
import { scratch } from '../support/scratch.js';
import { Random, SEED } from '../support/seed.js';
import { RECIPES, type Recipe } from './images.js';

type Report = Readonly<Record<string, unknown>>;

function qemuCheck(...args: readonly string[]): Run {
  const { status, stdout, stderr } = spawnSync('qemu-img', ['check', ...args], { encoding: 'utf8' });
  return { code: status, stdout, stderr };
}

/** What a check printed as JSON; undefined where it printed none. */
function reportOf({ stdout }: Run): Report | undefined {
  const at = stdout.indexOf('{');
  return at < 0 ? undefined : (JSON.parse(stdout.slice(at)) as Report);
}

function recipe(name: string): Recipe {
  const found = RECIPES.find((one) => one.name === name);
  if (found === undefined) throw new Error(`no recipe is called ${name}`);
  return found;
}

describe('imgfs check', function () {
  this.timeout(120_000);
  needsTool('qemu-img', 'qemu-io');
  const directory = scratch();
  const at = (name: string): string => directory.path(name);

  afterEach(() => {
    for (const name of fs.readdirSync(at('.'))) fs.rmSync(at(name), { recursive: true });
  });

  /** An image with a snapshot, and one whose header has forgotten it: all that the snapshot held has leaked. */
  function leaking(): string {
    qemuImg('create', '-q', '-f', 'qcow2', at('leaking.qcow2'), '8M');
    qemuIo(at('leaking.qcow2'), ['write -P 1 0 1M']);
    qemuImg('snapshot', '-c', 'lost', at('leaking.qcow2'));
    qemuIo(at('leaking.qcow2'), ['write -P 2 0 200k']);
    const fd = fs.openSync(at('leaking.qcow2'), 'r+');
    fs.writeSync(fd, Buffer.alloc(12), 0, 12, 60);
    fs.closeSync(fd);
    return at('leaking.qcow2');
  }

  function damaged(): string {
    const { bytes, refcounts } = damageable(at('damaged.qcow2'));
    bytes.writeUInt16BE(0, refcounts[0] + 2 * 60);
    fs.writeFileSync(at('damaged.qcow2'), bytes);
    return at('damaged.qcow2');
  }

  describe('says what qemu-img says, in text and JSON', () => {
    const images: readonly Pick<Recipe, 'name' | 'make' | 'infoOnly'>[] = [
      ...RECIPES,
      { name: 'leaks', make: leaking },
      { name: 'corruption', make: damaged },
    ];
    for (const { name, make, infoOnly } of images) {
      if (infoOnly !== undefined) continue;
      it(name, () => {
        const image = make(at);
        const [theirs, ours] = [qemuCheck('--output=json', image), imgfs(['check', '--output=json', image])];
        expect(ours.code).to.equal(theirs.code);
        const report = reportOf(theirs);
        expect(reportOf(ours)).to.deep.equal(report && { schema: 'imgfs.check/1', ...report });
        expect(imgfs(['check', image]).stdout).to.equal(qemuCheck(image).stdout);
      });
    }
  });

  it('rounds percentages as C does', () => {
    const zeros = { corruptions: 0, leaks: 0, checkErrors: 0, corruptionsFixed: 0, leaksFixed: 0, imageEnd: 0 };
    for (let total = 1; total <= 64; total++) {
      for (let allocated = 1; allocated <= total; allocated++) {
        const units = { total, allocated, fragmented: 0, compressed: 0 };
        const told = /= ([\d.]+)% allocated/.exec(checkText({ ...zeros, units }))?.[1];
        // Exact in binary only where it is eighths: there the even digit, elsewhere the nearer.
        const exact = (allocated * 100_000) / total;
        const tie = exact % 10 === 5 && (exact / 125) % 1 === 0;
        const hundredths = tie ? 2 * Math.round(exact / 20) : Math.round(exact / 10);
        expect(told, `${allocated} of ${total}`).to.equal((hundredths / 100).toFixed(2));
      }
    }
  });

  it('counts what qemu-img counts in images with damaged tables', () => {
    const random = new Random(SEED);
    const original = damageable(at('original.qcow2'));
    for (let round = 0; round < 60; round++) {
      const bytes = Buffer.from(original.bytes);
      const where: string[] = [];
      for (let n = 0; n <= random.below(3); n++) where.push(damage(bytes, original.tables, random));
      fs.writeFileSync(at('d.qcow2'), bytes);
      const { format, report } = examine(at('d.qcow2'), 'none');
      const theirs = reportOf(qemuCheck('--output=json', at('d.qcow2')));
      const ours = report && checkDocument(at('d.qcow2'), format, report);
      expect(ours, `${where.join(', ')} (seed ${SEED})`).to.deep.equal(
        theirs && { schema: 'imgfs.check/1', ...theirs },
      );
    }
  });

  describe('-r', () => {
    for (const what of ['leaks', 'all']) {
      it(`${what} gives leaks back, and each finds the other's work sound`, () => {
        const image = leaking();
        fs.copyFileSync(image, at('theirs.qcow2'));
        qemuImg('convert', '-O', 'raw', image, at('before.raw'));
        const ours = imgfs(['check', '-r', what, image]);
        expect(ours.code, ours.stderr).to.equal(0);
        expect(ours.stdout).to.match(
          /^The following inconsistencies were found and repaired:\n\n {4}\d+ leaked clusters\n {4}0 corruptions\n\nDouble checking the fixed image now\.\.\.\nNo errors were found on the image\.\n/,
        );
        expect(qemuCheck('-r', what, at('theirs.qcow2')).code).to.equal(0);
        expect(fs.statSync(image).blocks).to.be.at.most(fs.statSync(at('theirs.qcow2')).blocks);
        expect(qemuCheck(image).code).to.equal(0);
        expect(imgfs(['check', at('theirs.qcow2')])).to.include({ code: 0, stderr: '' });
        qemuImg('compare', '-F', 'raw', image, at('before.raw'));
      });
    }

    it('all mends wrong refcounts, and qemu-img agrees', () => {
      const random = new Random(SEED);
      const original = damageable(at('original.qcow2'));
      for (let round = 0; round < 8; round++) {
        const bytes = Buffer.from(original.bytes);
        const where = damageRefcounts(bytes, original, random);
        fs.writeFileSync(at('ours.qcow2'), bytes);
        fs.writeFileSync(at('theirs.qcow2'), bytes);
        const found = reportOf(imgfs(['check', '--json', at('ours.qcow2')]));
        const mended = imgfs(['check', '-r', 'all', '--json', at('ours.qcow2')]);
        expect(mended.code, `${where} (seed ${SEED}): ${mended.stderr}`).to.equal(0);
        expect(reportOf(mended)?.['leaks-fixed']).to.equal(found?.leaks);
        expect(reportOf(mended)?.['corruptions-fixed']).to.equal(found?.corruptions);
        expect(qemuCheck(at('ours.qcow2')).code, where).to.equal(0);
        qemuImg('compare', at('ours.qcow2'), at('original.qcow2'));
        if (qemuCheck('-r', 'all', at('theirs.qcow2')).code === 0) {
          expect(imgfs(['check', at('theirs.qcow2')]).code, where).to.equal(0);
        }
      }
    });

    it('leaks leaves corruption as it is', () => {
      const { bytes, refcounts } = damageable(at('d.qcow2'));
      bytes.writeUInt16BE(0, refcounts[0] + 2 * 60);
      bytes.writeUInt16BE(1, refcounts[0] + 2 * 1000);
      fs.writeFileSync(at('d.qcow2'), bytes);
      expect(imgfs(['check', '-r', 'leaks', at('d.qcow2')]).code).to.equal(2);
      expect(fs.readFileSync(at('d.qcow2')).readUInt16BE(refcounts[0] + 2 * 60)).to.equal(0);
    });

    it('nothing, to a byte, where something that refers to clusters cannot be read', () => {
      const image = recipe('bitmaps').make(at);
      const bytes = fs.readFileSync(image);
      const directoryAt = Number(bytes.readBigUInt64BE(bytes.indexOf(Buffer.from('23852875', 'hex')) + 24));
      bytes.fill(255, directoryAt + 16, directoryAt + 24);
      fs.writeFileSync(image, bytes);
      const { code, stderr } = imgfs(['check', '-r', 'all', image]);
      expect(code, stderr).to.equal(2);
      expect(stderr).to.include('Nothing is repaired');
      expect(fs.readFileSync(image)).to.deep.equal(bytes);
    });

    it('takes the mark of damage away once nothing is wrong', () => {
      const image = damaged();
      const fd = fs.openSync(image, 'r+');
      fs.writeSync(fd, Buffer.from([2]), 0, 1, 79);
      fs.closeSync(fd);
      expect(imgfs(['check', '-r', 'all', image]).code).to.equal(0);
      qemuIo(image, ['write -P 7 0 4k']);
    });
  });

  it('ends with 63 for formats without a check, known ones included', () => {
    fs.writeFileSync(at('disk.raw'), Buffer.alloc(65_536));
    expect(qemuCheck('-f', 'raw', at('disk.raw')).code).to.equal(63);
    for (const args of [[at('disk.raw')], ['-f', 'raw', '-r', 'all', at('disk.raw')], ['-f', 'vhdx', at('disk.raw')]]) {
      const { code, stdout, stderr } = imgfs(['check', '--json', ...args]);
      expect({ code, stdout }).to.deep.equal({ code: 63, stdout: '' });
      expect(stderr).to.match(/^imgfs: .*this image format does not support checks \((raw|vhdx)\)\n$/);
    }
  });

  it('ends with 1 for what cannot be checked', () => {
    fs.writeFileSync(at('cut.qcow2'), fs.readFileSync(recipe('qcow2').make(at)).subarray(0, 50));
    expect(imgfs(['check', at('cut.qcow2')])).to.include({ code: 1, stdout: '' });
    expect(imgfs(['check', at('gone')])).to.include({ code: 1, stdout: '' });
    expect(imgfs(['check', '-r', 'some', at('cut.qcow2')]).stderr).to.include('leaks or all');
    expect(imgfs(['check', '-r', 'all', '-U', at('cut.qcow2')])).to.include({ code: 1, stdout: '' });
  });

  it('-q prints findings only', () => {
    const image = leaking();
    const { code, stdout, stderr } = imgfs(['check', '-q', '--json', image]);
    expect({ code, stdout }).to.deep.equal({ code: 3, stdout: '' });
    expect(stderr).to.match(/^(Leaked: cluster \d+ [^\n]*\n)+$/);
  });

  it('neither needs nor opens what the image names, nor its key', () => {
    for (const name of ['chain of three', 'data file']) {
      const image = recipe(name).make(at);
      for (const other of ['base.qcow2', 'root.raw', 'data.bin']) fs.rmSync(at(other), { force: true });
      expect(imgfs(['check', image]), name).to.include({ code: 0, stderr: '' });
      fs.rmSync(image);
    }
    for (const name of ['LUKS', 'AES']) expect(imgfs(['check', recipe(name).make(at)]).code, name).to.equal(0);
  });

  it('an image that is written is not checked, one that is read not mended', async () => {
    const image = recipe('qcow2').make(at);
    const writer = await QemuSession.open('-f', 'qcow2', image);
    try {
      const { code, stderr } = imgfs(['check', image]);
      expect({ code }, stderr).to.deep.equal({ code: 1 });
      expect(stderr).to.match(new RegExp(`in use: qemu-io \\(pid ${writer.pid}\\)`));
      expect(imgfs(['check', '-U', image]).code).to.equal(0);
    } finally {
      await writer.close();
    }
    const reader = await QemuSession.open('-r', '-f', 'qcow2', image);
    try {
      expect(imgfs(['check', image]).code).to.equal(0);
      expect(imgfs(['check', '-r', 'all', image])).to.include({ code: 1, stdout: '' });
    } finally {
      await reader.close();
    }
  });

  it('killed while it repairs leaves an image that can be repaired, with the same disk', async () => {
    const { bytes, refcounts } = damageable(at('original.qcow2'));
    const tableAt = Number(bytes.readBigUInt64BE(48));
    for (let round = 0; round < 6; round++) {
      const broken = Buffer.from(bytes);
      for (let n = 0; n < 200; n++) broken.writeUInt16BE(n % 3, refcounts[0] + 2 * n);
      if (round % 2 === 1) broken.writeBigUInt64BE(512n, tableAt);
      fs.writeFileSync(at('killed.qcow2'), broken);
      const child = spawn(process.execPath, [MAIN, 'check', '-r', 'all', at('killed.qcow2')], { stdio: 'ignore' });
      const ended = new Promise((resolve) => child.once('exit', resolve));
      setTimeout(() => child.kill('SIGINT'), 60 + 25 * round);
      await ended;
      expect(imgfs(['check', '-r', 'all', at('killed.qcow2')]).code).to.equal(0);
      qemuImg('compare', at('killed.qcow2'), at('original.qcow2'));
    }
  });
});

describe('progress', () => {
  it('is told by a check, steadily from 0 to 1', () => {
    const parts: number[] = [];
    const [sample] = goodSamples();
    const storage = MemoryStorage.from(sample?.image ?? new Uint8Array());
    drained(check(storage, closedContext(), { repair: 'none', tell: () => {} }), (part) => parts.push(part));
    expect(parts).to.deep.equal(parts.toSorted((a, b) => a - b));
    expect(parts.at(-1)).to.equal(1);
  });
});

function examine(path: string, repair: Repair): Examined {
  return drained(examineImage(path, { formats, repair, forceShare: false, warn: () => {}, tell: () => {} }));
}
