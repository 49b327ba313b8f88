import { expect } from 'chai';
import { formats } from '../../src/formats/index.js';
import { imgfs, imgfsJson } from '../support/imgfs.js';

describe('imgfs formats', function () {
  this.timeout(30_000);

  it('has one line for each format, and says which are only recognised', () => {
    const { code, stdout, stderr } = imgfs(['formats']);
    expect({ code, stderr }).to.deep.equal({ code: 0, stderr: '' });
    const lines = stdout.trimEnd().split('\n').slice(1);
    expect(lines.map((line) => line.split(' ')[0])).to.deep.equal(formats.map(({ name }) => name));
    for (const [index, format] of formats.entries()) {
      expect(lines[index]?.includes('recognised only')).to.equal(format.kind === 'known');
    }
  });

  it('--json has the same', () => {
    const document = imgfsJson(['formats', '--json']) as { schema: string; formats: { name: string; can: object }[] };
    expect(document.schema).to.equal('imgfs.formats/1');
    expect(document.formats.map(({ name }) => name)).to.deep.equal(formats.map(({ name }) => name));
    expect(document.formats.find(({ name }) => name === 'qcow2')?.can).to.include({ read: true, snapshots: true });
    expect(document.formats.find(({ name }) => name === 'vhdx')?.can).to.deep.equal({ read: false });
  });
});
