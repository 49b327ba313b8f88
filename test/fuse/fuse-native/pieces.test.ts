import { expect } from 'chai';
import { ROOT } from '../../../src/fuse/adapter.js';
import { resolvePath } from '../../../src/fuse/fuse-native/desk.js';
import { handlers } from '../../../src/fuse/fuse-native/handlers.js';
import { mountOptions } from '../../../src/fuse/fuse-native/options.js';
import { statOf, statVfsOf } from '../../../src/fuse/fuse-native/stat.js';
import { fakeServed, INODES } from '../../support/served.js';

describe('fuse-native in pieces', () => {
  const request = { source: 'x', allowOther: false, readOnly: false };
  const served = fakeServed('directory');

  it('asks for allow_other and ro only when told to', () => {
    expect(mountOptions(request).split(',')).to.not.include('allow_other').and.not.include('ro');
    const both = mountOptions({ ...request, allowOther: true, readOnly: true });
    expect(both.split(',')).to.include('allow_other').and.include('ro').and.include('default_permissions');
  });

  it('never makes more options than the addon copies, and never cuts an escape or a character in two', () => {
    for (let length = 0; length < 1200; length += 7) {
      for (const unit of [',', '\\', '\u{1f600}', 'x']) {
        const options = mountOptions({ ...request, source: unit.repeat(length) });
        expect(Buffer.byteLength(options)).to.be.at.most(1023);
        expect(options).to.match(/fsname=(\.\.\.)?((\\[,\\])*|\u{1f600}*|x*)$/u);
      }
    }
  });

  it('counts space in units that fit 32 bits', () => {
    const space = { blockSize: 512, total: 2 ** 53 - 1, free: 2 ** 53 - 1, files: 3 };
    const shown = statVfsOf(space);
    expect(shown.bsize).to.equal(512);
    expect(shown.blocks)
      .to.be.below(2 ** 32)
      .and.above(2 ** 30);
    expect(shown.blocks * shown.frsize)
      .to.be.at.most(space.total)
      .and.above(space.total - shown.frsize);
    expect(statVfsOf({ ...space, total: 0, free: 0 }).blocks).to.equal(0);
  });

  it('shows 1970 for what is older, which the package cannot say', () => {
    const attributes = served.names.attributes(INODES.small);
    expect(statOf({ ...attributes, mtimeSeconds: -5 }).mtime).to.equal(0);
    expect(statOf({ ...attributes, allocated: 513 }).blocks).to.equal(2);
  });

  it('follows paths', () => {
    expect(resolvePath(served.names, '/')).to.equal(ROOT);
    expect(resolvePath(served.names, '/folder/inside.raw')).to.equal(INODES.inside);
    expect(() => resolvePath(served.names, '/small.raw/x')).to.throw('no x');
  });

  it('answers every request once, whatever is thrown', () => {
    const broken = {
      ...served,
      names: {
        ...served.names,
        attributes: () => {
          throw new TypeError('a bug');
        },
      },
    };
    const results: number[] = [];
    const logs: string[] = [];
    const operations = handlers(broken, { trace: true, readOnly: false, log: (message) => logs.push(message) });
    operations.getattr('/small.raw', (result) => results.push(result));
    operations.read('/small.raw', 77, Buffer.alloc(4), 4, 0, (result) => results.push(result));
    operations.release('/small.raw', 77, (result) => results.push(result));
    // Names without their stats are still a listing.
    operations.readdir('/', (result, names) => results.push(result, names?.length ?? -1));
    expect(results).to.deep.equal([-5, -5, -5, 0, 5]);
    expect(logs).to.include('getattr /small.raw -> internal error');
  });
});
