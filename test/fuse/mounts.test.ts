/** What every adapter's mounts show and do. What one of them does beyond is tested in its own folder. */
import { open } from 'node:fs/promises';
import { dirname } from 'node:path';
import { expect } from 'chai';
import { adapterMounts, dd, FUSE_NATIVE, KERNEL, pattern, stat } from '../support/adapter-mounts.js';
import { mountEntry, type Outcome, program } from '../support/mounted.js';
import { BIG_ALLOCATED, BIG_SIZE, INODES, MTIME_NANOSECONDS, MTIME_SECONDS } from '../support/served.js';

for (const of of [KERNEL, FUSE_NATIVE]) {
  const { name, can } = of.adapter;
  describe(`mounts, adapter ${name}`, function () {
    this.timeout(20_000);
    const mounts = adapterMounts(of);

    it('show type, source and options in the mount table', async () => {
      const { path } = await mounts.mount({ source: '/images/a b,c\\d.qcow2', readOnly: true, allowOther: true });
      const [source, , type, options] = mountEntry(path) ?? [];
      expect([source, type]).to.deep.equal(['/images/a\\040b,c\\134d.qcow2', 'fuse.imgfs']);
      const expected = ['ro', 'nosuid', 'nodev', 'default_permissions', 'allow_other', `max_read=${can.requestBytes}`];
      expect(options?.split(',')).to.include.members(expected);
    });

    it('keep to themselves and writable unless told otherwise, and show the end of a source far too long', async () => {
      const { path } = await mounts.mount({ source: `/${'x,\u00fc'.repeat(2000)}end.qcow2` });
      const [source, , type, options] = mountEntry(path) ?? [];
      expect(source).to.match(/^\.\.\..*end\.qcow2$/);
      expect(type).to.equal('fuse.imgfs');
      expect(options).to.include('rw,nosuid,nodev').and.include('default_permissions').and.not.include('allow_other');
    });

    it('list, and show exact sizes, blocks, inodes and times', async () => {
      const { path } = await mounts.mount();
      const listed = (await program('ls', '-1a', path)).stdout.toString().trim().split('\n');
      const files = ['big.raw', 'small.raw', 'broken.raw', 'bug.raw', 'folder'];
      expect(listed.filter((file) => !/^\.+$/.test(file))).to.have.members(files);
      expect(await stat('%s %b %B %i %a %h %o', `${path}/big.raw`)).to.equal(
        `${BIG_SIZE} ${Math.ceil(BIG_ALLOCATED / 512)} 512 ${INODES.big} 644 1 65536`,
      );
      expect(await stat('%.9Y', `${path}/big.raw`)).to.equal(`${MTIME_SECONDS}.0${MTIME_NANOSECONDS}`);
      expect(await stat('%F %i', `${path}/folder`)).to.equal(`directory ${INODES.folder}`);
      const within = (await program('ls', '-i', `${path}/folder`)).stdout.toString().trim();
      expect(within).to.equal(`${INODES.inside} inside.raw`);
      expect((await program('stat', `${path}/nothing`)).stderr).to.include('No such file');
    });

    it('show space past 32 bits', async () => {
      const { path } = await mounts.mount();
      const { stdout } = await program('stat', '-f', '-c', '%s %S %b %f', path);
      const [block = 0, unit = 0, total = 0, free = 0] = stdout.toString().trim().split(' ').map(Number);
      expect([block, total * unit, free * unit]).to.deep.equal([65536, 2 ** 50, 2 ** 49]);
    });

    it('read the right bytes at odd places, past 2 and 4 GiB, and to the end', async () => {
      const { path } = await mounts.mount();
      const file = `${path}/big.raw`;
      for (const at of [0, 1, 511, 2 ** 31 - 4096, 2 ** 32 - 4095, 2 ** 32 + 12_288]) {
        const { stdout } = await dd(file, 'bs=8191', 'count=1', 'iflag=skip_bytes,fullblock', `skip=${at}`);
        expect(stdout.equals(pattern(at, 8191)), `at ${at}`).to.equal(true);
      }
      const tail = await program('tail', '-c', '20000', file);
      expect(tail.stdout.equals(pattern(BIG_SIZE - 20_000, 20_000))).to.equal(true);
      expect((await program('cat', `${path}/small.raw`)).stdout.toString()).to.equal('hello\n');
    });

    it('can be made on a regular file', async () => {
      const mounted = await mounts.mount({ mountpointKind: 'file', readOnly: true });
      const { path } = mounted;
      expect(await stat('%F %s', path)).to.equal(`regular file ${BIG_SIZE}`);
      const { stdout } = await dd(path, 'bs=1M', 'count=1', 'skip=5000');
      expect(stdout.equals(pattern(5000 * 2 ** 20, 2 ** 20))).to.equal(true);
      expect(await mounted.unmount(false)).to.equal('ok');
      expect(await mounted.exited).to.equal(0);
    });

    it('can be made on the top of another mount', async () => {
      const at = mounts.mountpoint();
      expect((await program('mount', '-t', 'tmpfs', 'imgfs-test', at)).code).to.equal(0);
      mounts.later(() => program('umount', at));
      const mounted = await mounts.mount({ mountpoint: at });
      expect((await program('cat', `${at}/small.raw`)).stdout.toString()).to.equal('hello\n');
      expect(await mounted.unmount(false)).to.equal('ok');
      expect(await mounted.exited).to.equal(0);
    });

    it('answer errors with the right errno, and go on', async () => {
      const mounted = await mounts.mount();
      const { path } = mounted;
      for (const file of ['broken.raw', 'bug.raw']) {
        expect((await program('cat', `${path}/${file}`)).stderr).to.include('Input/output error');
      }
      for (const told of [/the table is not a table/, /internal error: a bug/]) {
        expect(await mounted.logged(1, told)).not.to.deep.equal([]);
      }
      expect((await program('cat', `${path}/small.raw`)).stdout.toString()).to.equal('hello\n');
    });

    it('refuse every change', async () => {
      const { path } = await mounts.mount();
      for (const [file = '', ...args] of [
        ['touch', `${path}/new`],
        ['rm', '-f', `${path}/small.raw`],
        ['mv', `${path}/small.raw`, `${path}/other.raw`],
        ['mkdir', `${path}/new`],
        ['rmdir', `${path}/folder`],
        ['ln', '-s', 'x', `${path}/new`],
        ['ln', `${path}/small.raw`, `${path}/new`],
        ['chmod', '600', `${path}/small.raw`],
        ['chown', '1', `${path}/small.raw`],
        ['truncate', '-s', '0', `${path}/small.raw`],
        ['mknod', `${path}/new`, 'p'],
        ['dd', 'if=/dev/zero', `of=${path}/small.raw`, 'count=1', 'conv=notrunc'],
      ]) {
        const { stderr } = await program(file, ...args);
        expect(stderr, `${file} ${args.join(' ')}`).to.match(/Read-only file system|not permitted/);
      }
      expect((await program('cat', `${path}/small.raw`)).stdout.toString()).to.equal('hello\n');
    });

    it('have no extended attributes, and say so', async () => {
      const { path } = await mounts.mount();
      const script = 'import os,sys\ntry: os.listxattr(sys.argv[1])\nexcept OSError as e: print(e.strerror)';
      const { stdout } = await program('python3', '-c', script, `${path}/small.raw`);
      expect(stdout.toString().trim()).to.equal('Operation not supported');
    });

    it('keep other users out by mode also with allow_other', async () => {
      const asOther = async (mode: number): Promise<Outcome> => {
        const { path } = await mounts.mount({ allowOther: true, mode });
        await program('chmod', '755', dirname(path));
        return program('setpriv', '--reuid=65534', '--regid=65534', '--clear-groups', 'cat', `${path}/small.raw`);
      };
      expect((await asOther(0o600)).stderr).to.include('Permission denied');
      expect((await asOther(0o644)).stdout.toString()).to.equal('hello\n');
    });

    it('end within a second after a plain umount', async () => {
      const mounted = await mounts.mount();
      await program('cat', `${mounted.path}/small.raw`);
      const start = Date.now();
      expect((await program('umount', mounted.path)).code).to.equal(0);
      expect(await mounted.exited).to.equal(0);
      expect(Date.now() - start).to.be.below(1000);
    });

    it('refuse to end while a file is open, and serve it on after a lazy end', async () => {
      const mounted = await mounts.mount();
      const file = await open(`${mounted.path}/big.raw`);
      try {
        expect(await mounted.unmount(false)).to.equal('busy');
        expect(await mounted.unmount(true)).to.equal('ok');
        expect(mountEntry(mounted.path)).to.equal(undefined);
        // Asked again when it is out of the tree, it has nothing to do, and leaves alone what else may be there.
        expect(await mounted.unmount(true)).to.equal('ok');
        const bytes = Buffer.alloc(4096);
        await file.read(bytes, 0, 4096, 2 ** 32);
        expect(bytes.equals(pattern(2 ** 32, 4096))).to.equal(true);
        expect(mounted.process.exitCode).to.equal(null);
      } finally {
        await file.close();
      }
      expect(await mounted.exited).to.equal(0);
    });

    it('do not end what somebody else mounted over them', async () => {
      const mounted = await mounts.mount();
      expect((await program('mount', '-t', 'tmpfs', 'imgfs-test', mounted.path)).code).to.equal(0);
      try {
        for (const lazy of [false, true]) expect(await mounted.unmount(lazy)).to.equal('busy');
      } finally {
        await program('umount', mounted.path);
      }
      expect(await mounted.unmount(false)).to.equal('ok');
      expect(await mounted.exited).to.equal(0);
    });

    it('can be cleared away when their server is killed', async () => {
      const mounted = await mounts.mount();
      mounted.process.kill('SIGKILL');
      await mounted.exited;
      expect((await program('ls', mounted.path)).stderr).to.include('Transport endpoint is not connected');
      expect((await program('umount', mounted.path)).code).to.equal(0);
    });
  });
}
