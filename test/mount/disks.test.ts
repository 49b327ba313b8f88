/** What people do with the views: loop devices, file systems, sparse copies; and block devices as images. */
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { forEachAdapter } from '../support/adapters.js';
import {
  checksums,
  loopWithPartitions,
  makeDisk,
  makeFiles,
  PARTITIONS,
  partitionDevice,
  readOnlyOptions,
  withMounted,
} from '../support/disks.js';
import { itWhere, needsRoot, place } from '../support/place.js';
import { imgfs, must, run } from '../support/program.js';
import { needsTool, qemuImg, qemuIo } from '../support/qemu.js';

const MIB = 1024 * 1024;

function allocated(file: string): number {
  return fs.statSync(file).blocks * 512;
}

function canMountVfat(): boolean {
  if (fs.readFileSync('/proc/filesystems', 'utf8').includes('\tvfat\n')) return true;
  const modprobe = ['/sbin/modprobe', '/usr/sbin/modprobe'].find((file) => fs.existsSync(file));
  return modprobe !== undefined && run(modprobe, ['-n', 'vfat']).code === 0;
}

forEachAdapter('a disk in use', ({ can }, option) => {
  needsRoot();
  needsTool('qemu-img', 'losetup', 'partx');
  const here = place();
  const missing = ['mkfs.xfs', 'mke2fs'].find(
    (tool) => !fs.existsSync(`/usr/sbin/${tool}`) && !fs.existsSync(`/sbin/${tool}`),
  );
  let image = '';
  let raw = '';
  let expected: Readonly<Record<string, string>> = {};

  before(function () {
    if (missing !== undefined) {
      console.log(`skipped: ${missing} is not installed`);
      this.skip();
    }
    const tree = makeFiles(here);
    expected = checksums(tree);
    raw = makeDisk(here, tree);
    image = here.path('disk.qcow2');
    qemuImg('convert', '-f', 'raw', '-O', 'qcow2', raw, image);
  });

  it('has partitions for losetup, with every file of their file systems', () => {
    const at = here.mount(image, option);
    const loop = loopWithPartitions(path.join(at, 'disk.raw'));
    PARTITIONS.forEach((partition, n) => {
      const device = partitionDevice(here, loop, n + 1);
      const found = withMounted(here, device, readOnlyOptions(partition), checksums);
      expect(found, partition.fileSystem).to.deep.equal(expected);
    });
    must('losetup', '-d', loop);
    expect(imgfs('umount', at)).to.include({ code: 0, stderr: '' });
  });

  it('has file systems for mount -o loop', () => {
    const at = here.mount(image, option);
    for (const partition of PARTITIONS) {
      const options = `loop,offset=${partition.start},sizelimit=${partition.size},${readOnlyOptions(partition)}`;
      const found = withMounted(here, path.join(at, 'disk.raw'), options, checksums);
      expect(found, partition.fileSystem).to.deep.equal(expected);
    }
  });

  const blind = can.seeksHoles ? undefined : 'the adapter cannot answer SEEK_HOLE';
  itWhere(blind, 'is copied without its holes by a plain cp', () => {
    const view = path.join(here.mount(image, option), 'disk.raw');
    must('cp', view, here.path('copy.raw'));
    expect(allocated(here.path('copy.raw'))).to.be.at.most(allocated(view) + MIB);
    must('cmp', raw, here.path('copy.raw'));
  });

  for (const [title, command] of [
    ['cp --sparse=always', ['cp', '--sparse=always']],
    ['qemu-img convert', ['qemu-img', 'convert', '-f', 'raw', '-O', 'raw']],
  ] as const) {
    it(`is copied without its holes by ${title}`, () => {
      const view = path.join(here.mount(image, option), 'disk.raw');
      const copy = here.path('sparse.raw');
      const [program, ...args] = command;
      must(program, ...args, view, copy);
      expect(allocated(copy)).to.be.at.most(allocated(view) + MIB);
      must('cmp', raw, copy);
    });
  }

  itWhere(blind, 'has the map that the image has', () => {
    const view = path.join(here.mount(image, option), 'disk.raw');
    const map = (file: string, format: string): unknown =>
      (JSON.parse(qemuImg('map', '-U', '-f', format, '--output=json', file)) as Record<string, unknown>[]).map(
        ({ start, length, zero }) => ({ start, length, zero }),
      );
    expect(map(view, 'raw')).to.deep.equal(map(image, 'qcow2'));
  });

  it('is a block device, whose size is the size of the view', () => {
    fs.writeFileSync(here.path('odd.img'), '');
    fs.truncateSync(here.path('odd.img'), 5 * MIB + 512);
    const device = must('losetup', '-f', '--show', here.path('odd.img')).trim();
    const at = here.mount(device, option, '--format=raw');
    const view = path.join(at, 'disk.raw');
    expect(fs.statSync(view).size).to.equal(5 * MIB + 512);
    must('cmp', here.path('odd.img'), view);
    expect(imgfs('umount', at).code).to.equal(0);
    must('losetup', '-d', device);
  });

  it('is a qcow2 image on a block device', () => {
    const file = here.path('on-device.qcow2');
    qemuImg('create', '-q', '-f', 'qcow2', file, '20M');
    qemuIo(file, ['write -P 5 1M 1M']);
    fs.truncateSync(file, 8 * MIB);
    const device = must('losetup', '-f', '--show', file).trim();
    const view = path.join(here.mount(device, option, '--format=qcow2'), 'disk.raw');
    const bytes = fs.readFileSync(view);
    expect(bytes.length).to.equal(20 * MIB);
    expect(bytes.subarray(MIB, 2 * MIB).every((byte) => byte === 5)).to.equal(true);
  });

  const noVfat = canMountVfat() ? blind : 'the kernel has no vfat';
  itWhere(noVfat, 'has the holes that its image knows of, on a file system that has none', () => {
    const [disk, home] = [here.path('vfat.img'), here.mountpoint()];
    fs.writeFileSync(disk, '');
    fs.truncateSync(disk, 40 * MIB);
    must('mkfs.vfat', disk);
    must('mount', '-o', 'loop', disk, home);
    qemuImg('create', '-q', '-f', 'qcow2', path.join(home, 'disk.qcow2'), '16M');
    must('cp', path.join(here.mount(path.join(home, 'disk.qcow2'), option), 'disk.raw'), here.path('copy'));
    expect(allocated(here.path('copy'))).to.equal(0);
  });

  // Its device may be there all the same: dmsetup makes it.
  const mapper = spawnSync('dmsetup', ['version']);
  const noMapper = mapper.status === 0 ? undefined : 'the kernel has no device-mapper, or dmsetup is not installed';
  itWhere(noMapper, 'is a logical volume', () => {
    fs.writeFileSync(here.path('volume.img'), Buffer.alloc(4 * MIB, 'volume'));
    const loop = must('losetup', '-f', '--show', here.path('volume.img')).trim();
    const name = `imgfs-test-${process.pid}`;
    must('dmsetup', 'create', name, '--table', `0 ${(2 * MIB) / 512} linear ${loop} 0`);
    try {
      const at = here.mount(`/dev/mapper/${name}`, option, '--format=raw');
      expect(fs.statSync(path.join(at, 'disk.raw')).size).to.equal(2 * MIB);
      expect(imgfs('umount', at).code).to.equal(0);
    } finally {
      must('dmsetup', 'remove', '--retry', name);
    }
  });
});
