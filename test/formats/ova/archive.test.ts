import fs from 'node:fs';
import { expect } from 'chai';
import { BLOCK, decodeHeader, encodeHeader, TYPES } from '../../../src/formats/ova/layout.js';
import { readTar } from '../../../src/formats/ova/tar.js';
import { ArchiveWriter } from '../../../src/formats/ova/write-tar.js';
import { MemoryStorage } from '../../../src/storage/memory.js';
import { must } from '../../support/program.js';
import { scratch } from '../../support/scratch.js';

describe('archives that imgfs makes', () => {
  const here = scratch();

  it('have headers for members of every size', () => {
    for (const size of [0, 1, 8 ** 11 - 1, 8 ** 11, 9 * 2 ** 30, 2 ** 47]) {
      const header = decodeHeader(encodeHeader('disk.vmdk', size), 'it');
      expect(header).to.deep.equal({ name: Buffer.from('disk.vmdk'), size, type: TYPES.file });
    }
    // What tar says of the first block of an archive that is cut off behind it.
    fs.writeFileSync(
      here.path('large.tar'),
      Buffer.concat([encodeHeader('disk.vmdk', 9 * 2 ** 30), Buffer.alloc(BLOCK)]),
    );
    expect(must('sh', '-c', `tar -tvf ${here.path('large.tar')} 2>/dev/null || true`)).to.match(
      / 9663676416 .* disk\.vmdk\n$/,
    );
  });

  it('have room for names of every length', () => {
    const names = ['a', 'b'.repeat(100), 'c'.repeat(101), 'd'.repeat(255), `${'\u00e4'.repeat(99)}.vmdk`];
    const storage = new MemoryStorage('archive');
    const writer = new ArchiveWriter(storage);
    for (const name of names) storage.write(Buffer.from(name), writer.add(name, Buffer.byteLength(name)));
    writer.end();
    const { members } = readTar(storage);
    expect(members.map(({ name }) => name)).to.deep.equal(names);
    const bytes = Buffer.alloc(storage.size());
    storage.read(bytes, 0);
    expect(bytes.length % 10_240).to.equal(0);
    for (const { name, at, size } of members) expect(bytes.subarray(at, at + size).toString()).to.equal(name);
    fs.writeFileSync(here.path('names.tar'), bytes);
    expect(must('tar', '--quoting-style=literal', '-tf', here.path('names.tar'))).to.equal(
      names.map((name) => `${name}\n`).join(''),
    );
  });
});
