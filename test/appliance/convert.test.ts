import { expect } from 'chai';
import { type MadeAppliance, makeAppliance } from '../formats/ova/appliances.js';
import { place } from '../support/place.js';
import { imgfs } from '../support/program.js';
import { needsTool, qemuImg } from '../support/qemu.js';

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
    expect(imgfs('convert', app.ova, app.ova).stderr).to.include('cannot be converted into itself');
  });
});
