import fs from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { type MadeAppliance, makeAppliance, sumsAgree } from '../formats/ova/appliances.js';
import { eventually, place } from '../support/place.js';
import { imgfs, must } from '../support/program.js';
import { needsTool, qemuImg, qemuIo } from '../support/qemu.js';

const MIB = 1024 * 1024;

describe('imgfs convert, from appliances', () => {
  needsTool('qemu-img', 'tar', 'sha1sum');
  const here = place();
  let app: MadeAppliance;

  before(() => {
    app = makeAppliance(here.path('app'));
  });

  it('takes the first disk, or the one of that number, of either form', () => {
    for (const file of [app.ova, app.ovf]) {
      for (const [n, ...options] of [[1], [1, '--disk', '1'], [2, '--disk', '2']] as const) {
        const target = here.path('out.qcow2');
        expect(imgfs('convert', '-O', 'qcow2', ...options, file, target)).to.include({ code: 0, stderr: '' });
        qemuImg('compare', '-f', 'qcow2', '-F', 'raw', target, app.disks[n - 1]!);
        expect(imgfs('compare', ...options, file, app.disks[n - 1]!).code).to.equal(0);
        expect(imgfs('compare', app.disks[n - 1]!, file, ...(n === 2 ? ['--second-disk', '2'] : [])).code).to.equal(0);
      }
    }
    const map = JSON.parse(imgfs('map', '--json', '--disk', '2', app.ova).stdout) as {
      start: number;
      length: number;
    }[];
    expect(map.reduce((sum, { length }) => sum + length, 0)).to.equal(3 * MIB);
  });

  it('says which disks there are, and that a disk has no others', () => {
    const none = imgfs('convert', '--disk', '3', app.ova, here.path('none.raw'));
    expect(none).to.include({ code: 1, stderr: `imgfs: ${app.ova} has no disk 3: they are 1 to 2\n` });
    expect(imgfs('map', '--disk', '0', app.ova).stderr).to.include('is no number of a disk');
    expect(imgfs('map', '--disk', '1', app.disks[0]!).stderr).to.include('is a disk, not several to choose from');
    for (const args of [
      ['create', '-f', 'qcow2', '-b', app.ova, '-F', 'ova', here.path('over.qcow2')],
      ['rebase', '-b', app.ova, here.path('plain.qcow2')],
      ['resize', app.ova, '+1M'],
      ['snapshot', '-l', app.ova],
      ['key', 'list', app.ova],
    ]) {
      qemuImg('create', '-q', '-f', 'qcow2', here.path('plain.qcow2'), '6M');
      const { code, stderr } = imgfs(...args);
      expect(code, args.join(' ')).to.equal(1);
      expect(stderr, args.join(' ')).to.match(/^imgfs: .*app\.ova [^\n]*\n$/);
    }
    expect(fs.existsSync(here.path('over.qcow2'))).to.equal(false);
    expect(imgfs('convert', app.ova, app.ova).stderr).to.include('cannot be converted into itself');
  });
});

describe('imgfs convert, to an appliance', () => {
  needsTool('qemu-img', 'qemu-io', 'tar', 'sha1sum');
  const here = place();
  let source = '';

  before(() => {
    source = here.path('source.qcow2');
    qemuImg('create', '-q', '-f', 'qcow2', source, '9M');
    qemuIo(source, ['write -P 7 1M 2M', 'write -P 9 8M 1000']);
  });

  it('makes one that tar, sha256sum and qemu-img agree with, and imgfs can do all with', () => {
    const target = here.path('my machine.ova');
    const options = 'name=R & D <1>,cpus=2,memory=2G,network=VM "Network",adapter=VmxNet3,controller=pvscsi';
    expect(imgfs('convert', '-o', options, source, target)).to.include({ code: 0, stderr: '' });
    const out = here.path('out');
    fs.mkdirSync(out);
    must('tar', '-C', out, '-xf', target);
    expect(fs.readdirSync(out).sort()).to.deep.equal(['my_machine-disk1.vmdk', 'my_machine.mf', 'my_machine.ovf']);
    expect(sumsAgree(out, 'my_machine.mf')).to.equal(true);
    qemuImg('compare', '-f', 'vmdk', '-F', 'qcow2', path.join(out, 'my_machine-disk1.vmdk'), source);
    const info = JSON.parse(
      qemuImg('info', '-f', 'vmdk', '--output=json', path.join(out, 'my_machine-disk1.vmdk')),
    ) as {
      'format-specific': { data: { 'create-type': string } };
    };
    expect(info['format-specific'].data['create-type']).to.equal('streamOptimized');
    const text = fs.readFileSync(path.join(out, 'my_machine.ovf'), 'utf8');
    expect(text).to.include('<Name>R &#38; D &#60;1&#62;</Name>');
    expect(text).to.include('<rasd:VirtualQuantity>2048</rasd:VirtualQuantity>');
    expect(text).to.include('<rasd:Connection>VM &#34;Network&#34;</rasd:Connection>');
    expect(imgfs('ova', 'verify', target).code).to.equal(0);
    expect(imgfs('ova', 'retarget', '--system-type', 'vmx-13', target).code).to.equal(0);
    expect(imgfs('compare', target, source).code).to.equal(0);
    expect(fs.readdirSync(path.join(here.mount(target), 'my_machine-disk1'))).to.include('disk.raw');
  });

  it('has every kind of controller, no network unless it is named, and replaces what is there', () => {
    const target = here.path('kinds.ova');
    for (const [kind, type] of [
      ['lsilogic', 6],
      ['buslogic', 6],
      ['lsilogicsas', 6],
      ['ide', 5],
      ['sata', 20],
    ] as const) {
      expect(imgfs('convert', '-O', 'ova', '-o', `controller=${kind},sha=sha1`, source, target).code).to.equal(0);
      const text = must('tar', '-xOf', target, 'kinds.ovf');
      expect(text).to.include(`<rasd:ResourceType>${type}</rasd:ResourceType>`);
      expect(text).not.to.include('NetworkSection');
    }
    const said = imgfs('convert', '-o', 'controller=sata,system_type=vmx-07', source, target);
    expect(said.stderr).to.match(/^imgfs: warning: vmx-07 has no SATA controller/);
    for (const [options, why] of [
      ['cpus=0', /0 processors are impossible/],
      ['memory=1000', /whole MiB/],
      ['controller=scsi', /it is lsilogic/],
      ['system_type=vmx-7', /did you mean vmx-0?7/],
      ['compat6=on', /ova images have no option "compat6"/],
    ] as const) {
      const { code, stderr } = imgfs('convert', '-o', options, source, target);
      expect(code, options).to.equal(1);
      expect(stderr).to.match(why);
    }
    expect(imgfs('convert', '-O', 'raw', source, here.path('raw.ova')).code).to.equal(0);
    expect(fs.statSync(here.path('raw.ova')).size).to.equal(9 * MIB);
    expect(imgfs('convert', '-O', 'ova', '-o', 'help').stdout).to.match(/^Options of ova/);
  });

  it('leaves the old one, and nothing else, where it is stopped', async () => {
    const folder = here.path('stopped');
    fs.mkdirSync(folder);
    const target = path.join(folder, 'old.ova');
    fs.writeFileSync(target, 'old');
    fs.writeFileSync(here.path('much.raw'), Buffer.alloc(32 * MIB, 'much'));
    const sources = Array.from({ length: 60 }, () => here.path('much.raw'));
    const child = here.startImgfs('convert', '-f', 'raw', ...sources, target);
    let said = '';
    child.stderr?.on('data', (bytes: Buffer) => {
      said += bytes.toString();
    });
    const read = (): number =>
      Number(/^rchar: (\d+)$/m.exec(fs.readFileSync(`/proc/${child.pid}/io`, 'ascii'))?.[1] ?? 0);
    await eventually('it reads', () => read() > 64 * MIB);
    child.kill('SIGINT');
    expect(await new Promise((resolve) => child.once('exit', (_, by) => resolve(by))), said).to.equal('SIGINT');
    expect(fs.readdirSync(folder)).to.deep.equal(['old.ova']);
    expect(fs.readFileSync(target, 'utf8')).to.equal('old');
  });
});
