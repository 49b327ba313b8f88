import { existsSync } from 'node:fs';
import { expect } from 'chai';
import { fuseNative } from '../../../src/fuse/fuse-native/index.js';
import { Mounted, mountpoint, type Outcome, program } from '../../support/mounted.js';

const MODULE = new URL('../../../src/fuse/fuse-native/index.js', import.meta.url).href;
const SERVED = new URL('./writable.js', import.meta.url).href;

const missing = process.geteuid?.() !== 0 ? 'not root' : fuseNative.unavailable();

const python = (script: string, ...args: readonly string[]): Promise<Outcome> =>
  program('python3', '-c', script, ...args);

describe(`fuse-native writes${missing === undefined ? '' : ` (skipped: ${missing})`}`, function () {
  this.timeout(20_000);
  let mounted: Mounted;
  let at: ReturnType<typeof mountpoint>;

  beforeEach(async function () {
    if (missing !== undefined) this.skip();
    at = mountpoint('directory');
    mounted = await Mounted.start(MODULE, 'fuseNative', { mountpoint: at.path, served: SERVED, trace: true });
  });

  afterEach(async () => {
    if (missing !== undefined) return;
    await mounted.clear();
    at.remove();
  });

  for (const [how, flags] of [
    ['through the page cache', []],
    ['past the page cache', ['oflag=direct']],
  ] as const) {
    it(`takes 128 KiB at once ${how}`, async () => {
      const args = ['if=/dev/urandom', `of=${at.path}/file.raw`, 'bs=1M', 'count=4', 'conv=notrunc', 'status=none'];
      expect(await program('dd', ...args, ...flags)).to.include({ code: 0 });
      const writes = await mounted.logged(32, /^write /);
      expect(writes).to.have.length(32);
      expect(writes[1]).to.equal('write /file.raw 131072 131072 -> 131072');
    });
  }

  it('writes what is read back, on both sides of 4 GiB and at odd offsets', async () => {
    const file = `${at.path}/file.raw`;
    const script = `
import os,sys
f=os.open(sys.argv[1],os.O_RDWR)
for at in (1, 2**31-3, 2**32-70001, 2**32+5, 6*2**30-9):
  data=os.urandom(200000 if at<2**32+6 else 9)
  assert os.pwrite(f,data,at)==len(data)
  os.fsync(f)
  os.posix_fadvise(f,0,0,os.POSIX_FADV_DONTNEED)
  assert os.pread(f,len(data),at)==data, at
os.close(f)`;
    expect(await python(script, file)).to.include({ code: 0, stderr: '' });
    expect(await mounted.logged(1, /^fsync \/file\.raw/)).not.to.deep.equal([]);
  });

  it('unmounts after a shared mapping was written to', async function () {
    if (!existsSync('/usr/bin/python3')) this.skip();
    const script = `
import mmap,os,sys
f=os.open(sys.argv[1],os.O_RDWR)
m=mmap.mmap(f,65536)
os.close(f)
m[5000:5005]=b'hello'`;
    expect(await python(script, `${at.path}/file.raw`)).to.include({ code: 0, stderr: '' });
    const { stdout } = await program('dd', `if=${at.path}/file.raw`, 'bs=1', 'skip=5000', 'count=5', 'status=none');
    expect(stdout.toString()).to.equal('hello');
    expect(await mounted.unmount(false)).to.equal('ok');
    expect(await mounted.exited).to.equal(0);
  });

  it('says when it is full, and at close when something was lost', async () => {
    const dd = (name: string, count: number): Promise<Outcome> =>
      program('dd', 'if=/dev/zero', `of=${at.path}/${name}`, 'bs=4k', `count=${count}`, 'conv=notrunc', 'status=none');
    expect((await dd('full.raw', 1)).code).to.equal(0);
    expect((await dd('full.raw', 1)).stderr).to.include('No space left on device');
    expect((await dd('lost.raw', 1)).stderr).to.include('Input/output error');
  });

  it('creates, grows, renames and removes', async () => {
    const script = `
import errno,os,sys
d=sys.argv[1]
def says(code, call, *args):
  try: call(*args)
  except OSError as e: assert e.errno==code, e
  else: raise AssertionError(code)
f=os.open(d+'/new.raw',os.O_RDWR|os.O_CREAT|os.O_EXCL,0o600)
os.ftruncate(f,5*2**30+1)
assert os.fstat(f).st_size==5*2**30+1
assert os.pwrite(f,b'x',5*2**30)==1
assert os.fstat(f).st_blocks==8
says(errno.EBUSY, os.unlink, d+'/new.raw')
says(errno.EBUSY, os.rename, d+'/new.raw', d+'/other.raw')
says(errno.EEXIST, os.open, d+'/new.raw', os.O_CREAT|os.O_EXCL)
os.close(f)
os.truncate(d+'/new.raw', 2**33)
assert os.stat(d+'/new.raw').st_size==2**33
for _ in range(100):
  try: os.rename(d+'/new.raw', d+'/other.raw'); break
  except OSError as e: assert e.errno==errno.EBUSY
assert 'other.raw' in os.listdir(d) and 'new.raw' not in os.listdir(d)
says(errno.ENOENT, os.stat, d+'/new.raw')
says(errno.EEXIST, os.rename, d+'/other.raw', d+'/file.raw')
os.utime(d+'/other.raw')
says(errno.EPERM, os.chmod, d+'/other.raw', 0o600)
says(errno.EPERM, os.mkdir, d+'/folder')
os.setxattr(d+'/other.raw', 'user.size', b'12345')
assert os.stat(d+'/other.raw').st_size==12345
says(errno.EOPNOTSUPP, os.setxattr, d+'/other.raw', 'user.other', b'')
says(errno.EOPNOTSUPP, os.getxattr, d+'/other.raw', 'user.size')
os.unlink(d+'/other.raw')
assert sorted(os.listdir(d))==['file.raw','full.raw','lost.raw']`;
    expect(await python(script, at.path)).to.include({ code: 0, stderr: '' });
  });
});
