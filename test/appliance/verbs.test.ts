import fs from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect } from 'chai';
import { archive } from '../../src/formats/ova/samples/archive.js';
import { virtualBox, virtV2v, vmware } from '../../src/formats/ova/samples/descriptors.js';
import { type MadeAppliance, makeAppliance, sumsAgree } from '../formats/ova/appliances.js';
import { place } from '../support/place.js';
import { IMGFS, imgfs, must, type Ran, run } from '../support/program.js';
import { needsTool } from '../support/qemu.js';

function ova(...args: readonly string[]): Ran {
  return imgfs('ova', ...args);
}

function done(...args: readonly string[]): string {
  const { code, stdout, stderr } = ova(...args);
  expect({ code, stderr }).to.deep.equal({ code: 0, stderr: '' });
  return stdout;
}

function same(a: string, b: string): void {
  expect(fs.readFileSync(a).equals(fs.readFileSync(b)), `${a} and ${b}`).to.equal(true);
}

/** Lines of `after` that are not in `before` at the same place, which must have as many. */
function changedLines(before: string, after: string): readonly (readonly [string, string])[] {
  const [old, now] = [before, after].map((file) => fs.readFileSync(file, 'utf8').split('\n')) as [string[], string[]];
  expect(now.length).to.equal(old.length);
  return old.flatMap((line, n) => (line === now[n] ? [] : [[line.trim(), now[n]!.trim()] as const]));
}

describe('imgfs ova', () => {
  needsTool('qemu-img', 'tar', 'sha1sum');
  const here = place();
  let app: MadeAppliance;
  const files = ['app.ovf', 'app.mf', 'app-disk1.vmdk', 'app-disk2.vmdk'];

  before(() => {
    app = makeAppliance(here.path('app'));
  });

  it('unpacks what tar packed, and packs it so that tar finds it, the same each time', () => {
    done('unpack', app.ova, here.path('out'));
    for (const file of files) same(path.join(app.directory, file), here.path(`out/${file}`));
    done('pack', here.path('out/app.ovf'), here.path('packed.ova'));
    expect(must('tar', '-tf', here.path('packed.ova')).trim().split('\n')).to.deep.equal(files);
    fs.mkdirSync(here.path('by-tar'));
    must('tar', '-C', here.path('by-tar'), '-xf', here.path('packed.ova'));
    for (const file of files) same(path.join(app.directory, file), here.path(`by-tar/${file}`));
    done('pack', here.path('by-tar/app.ovf'), here.path('again.ova'));
    same(here.path('packed.ova'), here.path('again.ova'));
    done('unpack', here.path('packed.ova'), here.path('twice'));
    for (const file of files) same(path.join(app.directory, file), here.path(`twice/${file}`));
  });

  it('does the whole of the way from VirtualBox to VMware in one command', () => {
    const said = ova('unpack', app.ova, here.path('b/B.ovf'), '--system-type', 'vmx-07', '--sha', 'sha1');
    expect(said.code).to.equal(0);
    expect(said.stderr).to.equal(
      'imgfs: warning: vmx-07 has no SATA controller, which the descriptor asks for: VMware has it since vmx-10\n',
    );
    expect(changedLines(app.ovf, here.path('b/B.ovf'))).to.deep.equal([
      [
        '<vssd:VirtualSystemType>virtualbox-2.2</vssd:VirtualSystemType>',
        '<vssd:VirtualSystemType>vmx-07</vssd:VirtualSystemType>',
      ],
    ]);
    expect(sumsAgree(here.path('b'), 'B.mf')).to.equal(true);
    expect(changedLines(path.join(app.directory, 'app.mf'), here.path('b/B.mf')).length).to.equal(1);
    expect(done('verify', here.path('b/B.ovf'))).to.equal('B.ovf: OK\napp-disk1.vmdk: OK\napp-disk2.vmdk: OK\n');
  });

  for (const [dialect, describeIt, type] of [
    ['VirtualBox', virtualBox, 'virtualbox-2.2'],
    ['VMware', vmware, 'vmx-10'],
    ['virt-v2v', virtV2v, 'ENGINE 4.1.0.0'],
  ] as const) {
    it(`retargets a descriptor of ${dialect}, in an archive and in a file, and leaves every other byte`, () => {
      const made = makeAppliance(here.path(`from-${dialect}`), 'app', describeIt);
      const before = fs.readFileSync(made.ovf, 'utf8');
      done('retarget', '--system-type', 'vmx-13', made.ova, here.path(`${dialect}.ova`));
      done('unpack', here.path(`${dialect}.ova`), here.path(`${dialect}-out`));
      const after = fs.readFileSync(here.path(`${dialect}-out/app.ovf`), 'utf8');
      expect(after).to.equal(before.replace(`Type>${type}<`, 'Type>vmx-13<'));
      expect(after).not.to.equal(before);
      expect(sumsAgree(here.path(`${dialect}-out`), 'app.mf')).to.equal(true);
      for (const disk of files.slice(2)) same(path.join(made.directory, disk), here.path(`${dialect}-out/${disk}`));
      const inode = fs.statSync(path.join(made.directory, 'app-disk1.vmdk')).ino;
      done('retarget', '--system-type', 'vmx-13', made.ovf);
      expect(fs.readFileSync(made.ovf, 'utf8')).to.equal(after);
      same(path.join(made.directory, 'app.mf'), here.path(`${dialect}-out/app.mf`));
      expect(fs.statSync(path.join(made.directory, 'app-disk1.vmdk')).ino).to.equal(inode);
      done('retarget', '--system-type', 'vmx-14', made.ova);
      expect(done('verify', made.ova)).to.include('app-disk2.vmdk: OK');
    });
  }

  it('takes other digests, and makes a manifest where there is none', () => {
    for (const [sha, length] of [
      ['sha1', 40],
      ['sha256', 64],
      ['sha512', 128],
    ] as const) {
      done('unpack', app.ova, here.path(sha), '--sha', sha);
      expect(sumsAgree(here.path(sha), 'app.mf')).to.equal(true);
      expect(fs.readFileSync(here.path(`${sha}/app.mf`), 'utf8')).to.match(new RegExp(`\\)= [0-9a-f]{${length}}\n$`));
    }
    fs.rmSync(here.path('sha512/app.mf'));
    const bare = ova('verify', here.path('sha512/app.ovf'));
    expect(bare.code).to.equal(1);
    expect(bare.stderr).to.include('there is no manifest');
    done('pack', here.path('sha512/app.ovf'), here.path('made.ova'));
    expect(done('verify', here.path('made.ova'))).to.include('app.ovf: OK');
  });

  it('keeps a manifest as it is, odd as it may look', () => {
    const made = makeAppliance(here.path('odd'));
    const manifest = path.join(made.directory, 'app.mf');
    const odd = fs
      .readFileSync(manifest, 'utf8')
      .replace(/^SHA1\(app\.ovf\)= (.*)$/m, (_, hex: string) => `\nsha1 (app.ovf) =  ${hex.toUpperCase()} \r`)
      .replaceAll('SHA1', 'SHA-1');
    fs.writeFileSync(manifest, `${odd}\n\n`);
    done('pack', made.ovf, here.path('odd.ova'));
    done('unpack', here.path('odd.ova'), here.path('odd-out'));
    same(manifest, here.path('odd-out/app.mf'));
    done('retarget', '--system-type', 'vmx-11', made.ovf);
    expect(changedLines(here.path('odd-out/app.mf'), manifest).length).to.equal(1);
    done('verify', made.ovf);
  });

  it('says what is not as the manifest has it, and goes on only with --lax, which corrects it', () => {
    const made = makeAppliance(here.path('wrong'));
    fs.writeFileSync(made.ovf, fs.readFileSync(made.ovf, 'utf8').replace('virtualbox-2.2', 'vmx-07'));
    const verified = ova('verify', made.ovf);
    expect(verified.code).to.equal(1);
    expect(verified.stdout).to.equal('app-disk1.vmdk: OK\napp-disk2.vmdk: OK\n');
    expect(verified.stderr).to.match(
      /"app\.ovf" is not what the manifest says: its SHA1 differs\n.*not verified: 1 problem\n$/,
    );
    expect(ova('verify', '--lax', made.ovf).code).to.equal(0);
    const refused = ova('pack', made.ovf, here.path('wrong.ova'));
    expect(refused.code).to.equal(1);
    expect(refused.stderr).to.match(/its SHA1 differs: go on all the same with --lax\n$/);
    expect(fs.existsSync(here.path('wrong.ova'))).to.equal(false);
    const lax = ova('pack', '--lax', made.ovf, here.path('wrong.ova'));
    expect(lax.code).to.equal(0);
    expect(lax.stderr).to.match(/^imgfs: warning: .*its SHA1 differs\n$/);
    done('verify', here.path('wrong.ova'));
  });

  it('manifest-names-other-files: missing ones, more than there are, and paths', () => {
    const made = makeAppliance(here.path('names'));
    const manifest = path.join(made.directory, 'app.mf');
    const lines = fs.readFileSync(manifest, 'utf8').split('\n');
    const secret = `SHA1(../secret)= ${'0'.repeat(40)}\nSHA1(/etc/passwd)= ${'0'.repeat(40)}\n`;
    fs.writeFileSync(manifest, `${lines[0]}\n${lines[1]}\n${secret}`);
    fs.writeFileSync(here.path('secret'), 'secret');
    const { code, stderr, stdout } = ova('verify', '--json', made.ovf);
    expect(code).to.equal(1);
    expect(stderr).to.include('3 problems');
    const document = JSON.parse(stdout) as { state: string; problems: string[] };
    expect(document.problems).to.deep.equal([
      '"../secret" is missing',
      '"/etc/passwd" is missing',
      '"app-disk2.vmdk" is not in the manifest',
    ]);
    for (const text of ['SHA1(x)= 12\n', 'MD5(x)= 12\n', 'nothing', `${lines[0]}\n${lines[0]}\n`]) {
      fs.writeFileSync(manifest, text);
      expect(ova('verify', made.ovf)).to.include({ code: 1, stdout: '' });
    }
  });

  it('notices a certificate, keeps it while it holds, and leaves it out where it does not', () => {
    const made = makeAppliance(here.path('signed'));
    fs.writeFileSync(path.join(made.directory, 'app.cert'), 'SHA1(app.mf)= 00\n-----BEGIN CERTIFICATE-----\n');
    const { code, stderr } = ova('verify', made.ovf);
    expect({ code, stderr }).to.deep.equal({
      code: 0,
      stderr: 'app.cert signs the manifest: imgfs does not check by whom\n',
    });
    done('pack', made.ovf, here.path('signed.ova'));
    expect(must('tar', '-tf', here.path('signed.ova'))).to.include('app.mf\napp.cert\n');
    const changed = ova('retarget', '--system-type', 'vmx-11', here.path('signed.ova'), here.path('unsigned.ova'));
    expect(changed.stderr).to.match(/app\.cert signs the manifest as it was, and is left out\n$/);
    expect(must('tar', '-tf', here.path('unsigned.ova'))).not.to.include('app.cert');
  });

  it('tells of sizes that are not so, and of files that are missing', () => {
    const made = makeAppliance(here.path('sizes'), 'app', (disks) =>
      virtualBox(
        disks.map((disk, n) =>
          n === 0 ? { ...disk, file: ' ovf:size="5"', disk: ' ovf:populatedSize="99999999"' } : disk,
        ),
      ),
    );
    const { code, stderr } = ova('verify', made.ova);
    expect(code).to.equal(1);
    expect(stderr).to.match(/"app-disk1\.vmdk" has \d+ bytes, the descriptor says 5\n/);
    expect(stderr).to.match(/the disk "vmdisk1" claims 99999999 bytes of data, and has 6291456\n/);
    fs.writeFileSync(made.ovf, fs.readFileSync(made.ovf, 'utf8').replace('capacity="3145728"', 'capacity="4000000"'));
    expect(ova('verify', made.ovf).stderr).to.include(
      'the disk "vmdisk2" has 3145728 bytes, the descriptor says 4000000',
    );
    fs.rmSync(path.join(made.directory, 'app-disk2.vmdk'));
    expect(ova('verify', made.ovf).stderr).to.include('"app-disk2.vmdk" is missing');
    expect(ova('pack', made.ovf, here.path('sizes.ova')).stderr).to.include('"app-disk2.vmdk" is missing');
    fs.writeFileSync(made.ovf, fs.readFileSync(made.ovf, 'utf8').replace(/ ovf:size="\d+"/g, ''));
    expect(ova('pack', made.ovf, here.path('sizes.ova')).stderr).to.include('"app-disk2.vmdk" is missing');
    // What it holds is told by the descriptor alone.
    expect(imgfs('info', made.ovf).stdout).to.include('disk 2: app-disk2.vmdk');
  });

  it('replaces nothing but with --overwrite, and leaves nothing behind where it fails', () => {
    fs.mkdirSync(here.path('taken'));
    fs.writeFileSync(here.path('taken/app-disk2.vmdk'), 'mine');
    expect(ova('unpack', app.ova, here.path('taken')).stderr).to.match(/is there already: use --overwrite/);
    expect(fs.readdirSync(here.path('taken'))).to.deep.equal(['app-disk2.vmdk']);
    fs.symlinkSync(here.path('secret'), here.path('taken/app.mf'));
    expect(ova('unpack', '--overwrite', app.ova, here.path('taken')).stderr).to.include('is no regular file');
    fs.rmSync(here.path('taken/app.mf'));
    done('unpack', '--overwrite', app.ova, here.path('taken'));
    for (const file of files) same(path.join(app.directory, file), here.path(`taken/${file}`));
    const cut = fs.readFileSync(app.ova);
    cut[cut.length - 12_000]! ^= 1;
    const bad = here.file('bad.ova', cut);
    const { code } = ova('unpack', bad, here.path('new'));
    expect(code).to.equal(1);
    expect(fs.existsSync(here.path('new'))).to.equal(false);
    expect(ova('retarget', '--system-type', 'vmx-11', bad).code).to.equal(1);
    same(bad, here.file('same', cut));
  });

  it('writes over no appliance that is mounted, and leaves nothing where the host is full', () => {
    const made = makeAppliance(here.path('mounted'));
    here.mount(made.ova);
    const busy = ova('retarget', '--system-type', 'vmx-11', made.ova);
    expect(busy.code).to.equal(1);
    expect(busy.stderr).to.match(/is mounted on .*: end that with imgfs umount/);
    const limited = `ulimit -f 200; trap '' XFSZ; exec "$0" "$@"`;
    for (const args of [
      ['unpack', app.ova, here.path('full')],
      ['retarget', '--system-type', 'vmx-11', app.ova, here.path('full.ova')],
    ]) {
      const { code, stderr } = run('bash', ['-c', limited, process.execPath, IMGFS, 'ova', ...args]);
      expect(code).to.equal(1);
      expect(stderr).to.match(/^imgfs: [^\n]+\n$/m);
      expect(fs.existsSync(args.at(-1)!)).to.equal(false);
    }
  });

  it('is stopped by Ctrl-C with nothing half done', async () => {
    const large = Buffer.alloc(256 * 2 ** 20);
    const text = Buffer.from(virtualBox([{ href: 'large.vmdk' }]));
    const file = here.file(
      'large.ova',
      archive([
        { name: 'large.ovf', bytes: text },
        { name: 'large.vmdk', bytes: large },
      ]),
    );
    const child = here.startImgfs('ova', 'unpack', '--sha', 'sha512', file, here.path('stopped'));
    while (!fs.existsSync(here.path('stopped')) && child.exitCode === null) await sleep(5);
    child.kill('SIGINT');
    const signal = await new Promise((resolve) => child.once('exit', (_, by) => resolve(by)));
    expect(signal).to.equal('SIGINT');
    expect(fs.existsSync(here.path('stopped'))).to.equal(false);
    fs.rmSync(file);
  });

  it('says how it is used', () => {
    for (const [args, why] of [
      [['unpack'], /missing required argument/],
      [['undo', app.ova], /"undo" is no action: unpack, pack, verify, retarget/],
      [['pack', app.ova, 'x.ova'], /is ova, not ovf/],
      [['unpack', app.ovf], /is ovf, not ova/],
      [['retarget', app.ova], /needs a type of machine/],
      [['retarget', '--system-type', 'vmx-7', app.ova], /did you mean vmx-0?7/],
      [['unpack', '--sha', 'md5', app.ova], /"md5" is no digest/],
    ] as const) {
      const { code, stderr } = ova(...args);
      expect(code, args.join(' ')).to.equal(2);
      expect(stderr).to.match(why);
    }
    expect(ova('verify', app.disks[0]!)).to.deep.include({
      code: 1,
      stderr: `imgfs: ${app.disks[0]} is a disk (raw), not an appliance\n`,
    });
  });
});
