import fs from 'node:fs';
import path from 'node:path';
import { gzipSync } from 'node:zlib';
import { expect } from 'chai';
import { forEachAdapter } from '../../support/adapters.js';
import { eventually, place } from '../../support/place.js';
import { imgfs, must } from '../../support/program.js';
import { needsTool, qemuBytes, qemuImg } from '../../support/qemu.js';
import { type MadeAppliance, makeAppliance } from './appliances.js';

interface Info {
  readonly disks: readonly { readonly file: string }[];
  readonly manifest: { readonly state: string; readonly verified?: readonly string[]; readonly problems?: string[] };
}

function infoOf(at: string): Info {
  return JSON.parse(fs.readFileSync(path.join(at, 'info.json'), 'utf8')) as Info;
}

/** What the manifest turns out to be, once everything was read. */
async function manifestOf(at: string): Promise<Info['manifest']> {
  await eventually('the manifest is verified', () => infoOf(at).manifest.state !== 'being verified');
  return infoOf(at).manifest;
}

forEachAdapter('an appliance, mounted', (_, option) => {
  needsTool('qemu-img', 'tar', 'sha1sum');
  const here = place();
  let app: MadeAppliance;

  before(() => {
    app = makeAppliance(here.path('app'));
  });

  it('shows a directory for each disk, with the bytes that qemu-img finds in the unpacked one', async () => {
    for (const file of [app.ova, app.ovf]) {
      const at = here.mount(file, option);
      expect(fs.readdirSync(at).sort()).to.deep.equal(['app-disk1', 'app-disk2', 'appliance.ovf', 'info.json']);
      for (const n of [1, 2]) {
        const disk = fs.readFileSync(path.join(at, `app-disk${n}/disk.raw`));
        expect(disk.equals(qemuBytes(path.join(app.directory, `app-disk${n}.vmdk`), '-f', 'vmdk'))).to.equal(true);
      }
      expect(fs.readFileSync(path.join(at, 'appliance.ovf')).equals(fs.readFileSync(app.ovf))).to.equal(true);
      expect(await manifestOf(at)).to.include({ state: 'verified' });
      expect(infoOf(at).disks.map((disk) => disk.file)).to.deep.equal(['app-disk1.vmdk', 'app-disk2.vmdk']);
      expect(imgfs('umount', at)).to.include({ code: 0, stderr: '' });
    }
  });

  it('says in info.json which file is not what the manifest says', async () => {
    const copy = makeAppliance(here.path('damaged'));
    const bytes = fs.readFileSync(copy.ova);
    const { descriptor } = JSON.parse(imgfs('info', '--json', copy.ova).stdout) as {
      descriptor: { files: { name: string; offset: number; size: number }[] };
    };
    const second = descriptor.files.find(({ name }) => name === 'app-disk2.vmdk')!;
    bytes[second.offset + second.size - 600]! ^= 1;
    fs.writeFileSync(copy.ova, bytes);
    const manifest = await manifestOf(here.mount(copy.ova, option));
    expect(manifest.state).to.equal('failed');
    expect(manifest.verified).to.deep.equal(['app.ovf', 'app-disk1.vmdk']);
    expect(manifest.problems?.join()).to.match(/^"app-disk2\.vmdk" is not what the manifest says/);
  });

  it('is only read, with a line that says so; members inherit its owner and mode', () => {
    const at = here.mountpoint();
    fs.chmodSync(app.ova, 0o640);
    const said = imgfs('mount', option, app.ova, at);
    expect(said.code).to.equal(0);
    expect(said.stderr).to.match(/^imgfs: warning: .*app\.ova is mounted read-only: .*--overlay/);
    expect(fs.statSync(path.join(at, 'app-disk1/disk.raw')).mode % 0o1000).to.equal(0o440);
    expect(fs.statSync(path.join(at, 'appliance.ovf')).mode % 0o1000).to.equal(0o440);
    expect(() => fs.openSync(path.join(at, 'app-disk1/disk.raw'), 'r+')).to.throw(/EROFS|EACCES/);
    expect(imgfs('mount', option, '-o', 'rw', app.ova, here.mountpoint()).code).to.equal(1);
  });

  it('takes what is written into an overlay for each disk, which QEMU can open too', () => {
    const overlays = here.path('overlays');
    fs.mkdirSync(overlays);
    const before = fs.readFileSync(app.ova);
    const write = (at: string): void => {
      const fd = fs.openSync(path.join(at, 'app-disk2/disk.raw'), 'r+');
      fs.writeSync(fd, Buffer.alloc(70_000, 'overlaid'), 0, 70_000, 1_000_000);
      fs.closeSync(fd);
    };
    const at = here.mountToWrite(app.ova, option, '--overlay', overlays);
    write(at);
    const now = fs.readFileSync(path.join(at, 'app-disk2/disk.raw'));
    expect(imgfs('umount', at).code).to.equal(0);
    expect(fs.readFileSync(app.ova).equals(before)).to.equal(true);
    expect(fs.readdirSync(overlays)).to.deep.equal(['app-disk1.qcow2', 'app-disk2.qcow2']);
    expect(qemuBytes(path.join(overlays, 'app-disk2.qcow2'), '-f', 'qcow2').equals(now)).to.equal(true);
    const again = here.mountToWrite(app.ova, option, '--overlay', overlays);
    expect(fs.readFileSync(path.join(again, 'app-disk2/disk.raw')).equals(now)).to.equal(true);
    expect(imgfs('umount', again).code).to.equal(0);
    fs.renameSync(path.join(overlays, 'app-disk1.qcow2'), path.join(overlays, 'app-disk2.qcow2'));
    const wrong = imgfs('mount', option, '--overlay', overlays, app.ova, here.mountpoint());
    expect(wrong.code).to.equal(1);
    expect(wrong.stderr).to.include('belongs to');
  });

  it('lies beside images in one mount, and is a file where it holds one disk', () => {
    qemuImg('create', '-q', '-f', 'qcow2', here.path('plain.qcow2'), '1M');
    const at = here.mount([here.path('plain.qcow2'), app.ova], option);
    expect(fs.readdirSync(at).sort()).to.deep.equal(['app', 'plain']);
    must('cmp', path.join(at, 'app/app-disk1/disk.raw'), app.disks[0]!);
    expect(fs.existsSync(path.join(at, 'plain/disk.raw'))).to.equal(true);
  });
});

describe('an appliance, opened by its parts', () => {
  needsTool('qemu-img', 'tar', 'sha1sum');
  const here = place();

  it('has a disk in chunks beside its descriptor', () => {
    const { directory, ovf, disks } = makeAppliance(here.path('chunks'));
    const disk = path.join(directory, 'app-disk1.vmdk');
    const bytes = fs.readFileSync(disk);
    for (let n = 0; n * 100_000 < bytes.length; n++) {
      fs.writeFileSync(`${disk}.${String(n).padStart(9, '0')}`, bytes.subarray(n * 100_000, (n + 1) * 100_000));
    }
    fs.rmSync(disk);
    fs.writeFileSync(
      ovf,
      fs.readFileSync(ovf, 'utf8').replace('ovf:id="file1"', 'ovf:id="file1" ovf:chunkSize="100000"'),
    );
    const at = here.mount(ovf);
    must('cmp', path.join(at, 'app-disk1/disk.raw'), disks[0]!);
    must('cmp', path.join(at, 'app-disk2/disk.raw'), disks[1]!);
  });

  it('has a disk packed by gzip, whole in an archive and in chunks beside its descriptor', () => {
    const { directory, ova, ovf, disks } = makeAppliance(here.path('packed'));
    const disk = path.join(directory, 'app-disk1.vmdk');
    const packed = gzipSync(fs.readFileSync(disk));
    const whole = fs.readFileSync(ovf, 'utf8').replace('ovf:id="file1"', 'ovf:id="file1" ovf:compression="gzip"');
    fs.writeFileSync(disk, packed);
    fs.writeFileSync(ovf, whole);
    must('tar', '-C', directory, '--format=ustar', '-cf', ova, 'app.ovf', 'app-disk1.vmdk', 'app-disk2.vmdk');
    const half = Math.ceil(packed.length / 2);
    fs.writeFileSync(`${disk}.000000000`, packed.subarray(0, half));
    fs.writeFileSync(`${disk}.000000001`, packed.subarray(half));
    fs.rmSync(disk);
    const sized = whole.replace(/ovf:size="\d+"/, `ovf:size="${packed.length}" ovf:chunkSize="${half}"`);
    fs.writeFileSync(ovf, sized);
    for (const file of [ova, ovf]) {
      const at = here.mount(file);
      must('cmp', path.join(at, 'app-disk1/disk.raw'), disks[0]!);
      must('cmp', path.join(at, 'app-disk2/disk.raw'), disks[1]!);
    }
    fs.mkdirSync(here.path('over'));
    const said = imgfs('mount', '--overlay', here.path('over'), ova, here.mountpoint());
    expect(said.stderr).to.include('use --overlay tmp');
    const over = here.mountToWrite(ova, '--overlay', 'tmp');
    must('cmp', path.join(over, 'app-disk1/disk.raw'), disks[0]!);
  });

  it('ovf-disk-is-a-link: its disk leads out of its directory', () => {
    const { directory, ovf } = makeAppliance(here.path('linked'));
    fs.renameSync(path.join(directory, 'app-disk1.vmdk'), here.path('elsewhere.vmdk'));
    fs.symlinkSync(here.path('elsewhere.vmdk'), path.join(directory, 'app-disk1.vmdk'));
    const said = imgfs('mount', ovf, here.mountpoint());
    expect(said.code).to.equal(1);
    expect(said.stderr).to.match(/file "app-disk1\.vmdk" .* is refused: it lies outside/);
    expect(said.stderr).to.include('--allow-refs');
  });

  it('ova-disk-names-a-file: a disk within an archive names another file', () => {
    const home = here.path('names');
    const { directory, ova } = makeAppliance(home);
    qemuImg('create', '-q', '-f', 'qcow2', path.join(directory, 'base.qcow2'), '3M');
    const over = path.join(directory, 'app-disk1.vmdk');
    fs.rmSync(over);
    qemuImg('create', '-q', '-f', 'qcow2', '-b', 'base.qcow2', '-F', 'qcow2', over);
    const ovf = fs.readFileSync(path.join(directory, 'app.ovf'), 'utf8').replace(/ovf:format="[^"]*"/g, '');
    fs.writeFileSync(path.join(directory, 'app.ovf'), ovf.replaceAll('app-disk1.vmdk', 'app-disk1.qcow2'));
    fs.renameSync(over, path.join(directory, 'app-disk1.qcow2'));
    must('tar', '-C', directory, '-cf', ova, 'app.ovf', 'app-disk1.qcow2', 'app-disk2.vmdk', 'base.qcow2');
    const said = imgfs('mount', ova, here.mountpoint());
    expect(said.code).to.equal(1);
    expect(said.stderr).to.include('lies in a container itself');
  });

  it('is refused where a tar archive is no appliance, and where it is cut short', () => {
    const { directory, ova } = makeAppliance(here.path('other'));
    must('tar', '-C', directory, '-cf', here.path('files.tar'), 'app-disk1.vmdk');
    fs.symlinkSync('app-disk1.vmdk', path.join(directory, 'link'));
    must('tar', '-C', directory, '-cf', here.path('more.ova'), 'app.ovf', 'link', 'app-disk1.vmdk', 'app-disk2.vmdk');
    expect(imgfs('info', here.path('more.ova')).stdout).to.include(
      'disk 2: app-disk2.vmdk (3 MiB, 3145728 bytes)\npassed over: link (a link)\n',
    );
    expect(imgfs('info', here.path('files.tar')).stderr).to.include('is a tar archive without a descriptor');
    fs.truncateSync(ova, fs.statSync(ova).size - 20_480);
    expect(imgfs('info', ova).stderr).to.match(/app\.ova ends inside "app-disk2\.vmdk"\n$/);
    fs.writeFileSync(ova, gzipSync(fs.readFileSync(ova)));
    expect(imgfs('info', ova).stderr).to.include('is named like ova but looks like raw');
  });
});
