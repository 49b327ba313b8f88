/** The tree of served.ts: what takes several threads, or several replies. */
import { stat } from 'node:fs/promises';
import { expect } from 'chai';
import { kernel } from '../../../src/fuse/kernel/index.js';
import { Mounted, mountpoint, program } from '../../support/mounted.js';
import { fillPattern } from '../../support/served.js';
import { ALLOCATED, DATA, fillHoles, HOLES_SIZE, MANY, OLD_SECONDS, READ_MS, UTF8_NAME } from './served.js';

const MODULE = new URL('../../../src/fuse/kernel/index.js', import.meta.url).href;
const SERVED = new URL('./served.js', import.meta.url).href;
const obstacle = process.geteuid?.() !== 0 ? 'not root' : kernel.unavailable();

describe(`kernel adapter threads${obstacle === undefined ? '' : ` (skipped: ${obstacle})`}`, function () {
  this.timeout(20_000);
  const at = mountpoint('directory');
  let mounted: Mounted | undefined;
  const path = (name: string): string => `${at.path}/${name}`;

  before(async function () {
    if (obstacle !== undefined) this.skip();
    mounted = await Mounted.start(MODULE, 'kernel', { mountpoint: at.path, served: SERVED, readOnly: true });
  });

  after(async () => {
    await mounted?.clear();
    at.remove();
  });

  it('tells holes, so that a sparse copy reads data only and stays sparse', async () => {
    const copy = `${at.path}-copy`;
    expect((await program('cp', '--sparse=always', path('holes.raw'), copy)).code).to.equal(0);
    const { size, blocks } = await stat(copy);
    expect(size).to.equal(HOLES_SIZE);
    expect(blocks * 512).to.be.within(ALLOCATED, ALLOCATED + 65536);
    const expected = Buffer.alloc(HOLES_SIZE);
    fillHoles(expected, 0);
    expect((await program('cat', copy)).stdout.equals(expected)).to.equal(true);
    expect((await program('cmp', copy, path('holes.raw'))).code).to.equal(0);
  });

  it('answers SEEK_DATA and SEEK_HOLE as lseek has them', async () => {
    const script = `
import os,sys
f=os.open(sys.argv[1],os.O_RDONLY)
def s(at,how):
    try: return os.lseek(f,at,how)
    except OSError as e: return e.strerror
print(s(0,os.SEEK_DATA),s(0,os.SEEK_HOLE),s(${DATA[0]![0]},os.SEEK_HOLE),s(${DATA[1]![1]},os.SEEK_DATA),s(${HOLES_SIZE},os.SEEK_HOLE),s(0,os.SEEK_END))`;
    const { stdout } = await program('python3', '-c', script, path('holes.raw'));
    const none = 'No such device or address';
    expect(stdout.toString().trim()).to.equal(`${DATA[0]![0]} 0 ${DATA[0]![1]} ${none} ${none} ${HOLES_SIZE}`);
  });

  it('has the main thread read what the workers lack', async () => {
    const expected = Buffer.alloc(2 ** 20);
    fillPattern(expected, 0);
    expect((await program('cat', path('main.raw'))).stdout.equals(expected)).to.equal(true);
  });

  it('reads in parallel', async () => {
    const start = performance.now();
    await Promise.all(
      [0, 1, 2, 3].map((n) =>
        program('dd', `if=${path('slow.raw')}`, 'of=/dev/null', 'bs=4k', 'count=1', 'iflag=direct', `skip=${n}`),
      ),
    );
    expect(performance.now() - start).to.be.below(3 * READ_MS);
  });

  it('answers names while every worker is busy but one', async () => {
    const readers = [0, 1, 2].map((n) =>
      program('dd', `if=${path('slow.raw')}`, 'of=/dev/null', 'bs=4k', 'count=3', 'iflag=direct', `skip=${n * 3}`),
    );
    const start = performance.now();
    expect((await program('stat', path('nothing'))).code).to.equal(1);
    expect(performance.now() - start).to.be.below(2 * READ_MS);
    await Promise.all(readers);
  });

  it('outlives readers that are interrupted', async () => {
    for (const signal of ['INT', 'KILL']) {
      const start = performance.now();
      const command = ['dd', `if=${path('slow.raw')}`, 'of=/dev/null', 'bs=4k', 'count=64', 'iflag=direct'];
      await program('timeout', '-s', signal, '0.05', ...command);
      expect(performance.now() - start, signal).to.be.below(50 + 4 * READ_MS);
    }
    expect((await program('stat', path('slow.raw'))).code).to.equal(0);
  });

  it('lists a directory of many requests, each name once', async () => {
    const { stdout } = await program('ls', '-1U', path('many'));
    const names = stdout.toString().trimEnd().split('\n');
    expect(names).to.have.length(MANY);
    expect(new Set(names).size).to.equal(MANY);
    expect(names).to.include(UTF8_NAME);
    expect((await program('stat', path(`many/${UTF8_NAME}`))).code).to.equal(0);
  });

  it('goes on listing from any offset', async () => {
    const script = `
import ctypes,os,sys
libc=ctypes.CDLL(None,use_errno=True)
libc.opendir.restype=ctypes.c_void_p
libc.telldir.restype=ctypes.c_long
d=ctypes.c_void_p(libc.opendir(sys.argv[1].encode()))
class E(ctypes.Structure): _fields_=[('i',ctypes.c_ulong),('o',ctypes.c_long),('l',ctypes.c_ushort),('t',ctypes.c_ubyte),('n',ctypes.c_char*256)]
libc.readdir.restype=ctypes.POINTER(E)
for i in range(700): libc.readdir(d)
at=libc.telldir(d)
first=libc.readdir(d).contents.n
for i in range(200): libc.readdir(d)
libc.seekdir(d,ctypes.c_long(at))
print(first==libc.readdir(d).contents.n)
libc.rewinddir(d)
print(libc.readdir(d).contents.n.decode())`;
    const { stdout } = await program('python3', '-c', script, path('many'));
    expect(stdout.toString().trim()).to.equal('True\n.');
  });

  it('finds nothing under a name that is not UTF-8', async () => {
    const { stderr } = await program('sh', '-c', `stat "$1/$(printf 'a\\377b')"`, 'sh', at.path);
    expect(stderr).to.include('No such file');
  });

  it('shows times before 1970', async () => {
    expect((await program('stat', '-c', '%Y', path('old.raw'))).stdout.toString().trim()).to.equal(String(OLD_SECONDS));
  });

  it('fails the request that killed its worker, and replaces the worker', async () => {
    for (let round = 0; round < 6; round++) {
      const { stderr } = await program('dd', `if=${path('deadly.raw')}`, 'bs=4k', 'count=1', 'iflag=direct');
      expect(stderr).to.include('Input/output error');
    }
    expect(await mounted?.logged(6, /^a data worker died/)).to.have.length(6);
    const slow = ['if=', 'of=/dev/null', 'bs=4k', 'count=1', 'iflag=direct'].map((o) =>
      o === 'if=' ? `if=${path('slow.raw')}` : o,
    );
    const start = performance.now();
    await Promise.all([0, 1, 2, 3].map((n) => program('dd', ...slow, `skip=${n}`)));
    expect(performance.now() - start).to.be.below(3 * READ_MS);
    expect(await mounted?.unmount(false)).to.equal('ok');
    expect(await mounted?.exited).to.equal(0);
  });
});
