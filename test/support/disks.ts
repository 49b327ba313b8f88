/** Real disks for tests: a partition table, file systems with files in them, and ways to look into both. */
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import type { Place } from './place.js';
import { must, run } from './program.js';
import { Random } from './seed.js';

const SECTOR = 512;
const MIB = 1024 * 1024;
const LINUX = 0x83;

/** A partition: its number is its place in the list. */
export interface Partition {
  readonly fileSystem: 'ext4' | 'xfs';
  readonly start: number;
  readonly size: number;
}

/** mkfs.xfs makes nothing smaller than 300 MiB. */
export const PARTITIONS: readonly Partition[] = [
  { fileSystem: 'ext4', start: MIB, size: 24 * MIB },
  { fileSystem: 'xfs', start: 32 * MIB, size: 320 * MIB },
];

/** A directory of files of all sizes; deterministic for a seed. */
export function makeFiles(here: Place): string {
  const tree = here.path('tree');
  const random = new Random();
  fs.mkdirSync(path.join(tree, 'deep/er'), { recursive: true });
  for (const [n, size] of [0, 1, 4095, 65_537, 3_000_001].entries()) {
    fs.writeFileSync(path.join(tree, n % 2 === 0 ? '.' : 'deep/er', `file-${n}`), random.bytes(size));
  }
  return tree;
}

/** Every file beneath a directory with the checksum of its content. */
export function checksums(directory: string): Readonly<Record<string, string>> {
  const names = (fs.readdirSync(directory, { recursive: true }) as string[]).sort();
  const files = names.filter((name) => fs.statSync(path.join(directory, name)).isFile());
  const sum = (name: string): string =>
    createHash('sha256')
      .update(fs.readFileSync(path.join(directory, name)))
      .digest('hex');
  return Object.fromEntries(files.map((name) => [name, sum(name)]));
}

/** A raw disk with PARTITIONS on it, each holding the files of `tree`. Sparse. */
export function makeDisk(here: Place, tree: string): string {
  const disk = here.path('disk.img');
  fs.writeFileSync(disk, '');
  fs.truncateSync(disk, 360 * MIB);
  for (const partition of PARTITIONS) {
    const one = here.path('partition.img');
    fs.writeFileSync(one, '');
    fs.truncateSync(one, partition.size);
    if (partition.fileSystem === 'ext4') must('mke2fs', '-q', '-t', 'ext4', '-d', tree, one);
    else must('mkfs.xfs', '-q', '-p', here.file('prototype', prototype(tree)), one);
    must(
      'dd',
      `if=${one}`,
      `of=${disk}`,
      'bs=1M',
      `seek=${partition.start / MIB}`,
      'conv=notrunc,sparse',
      'status=none',
    );
    fs.rmSync(one);
  }
  const file = fs.openSync(disk, 'r+');
  fs.writeSync(file, masterBootRecord(), 0, SECTOR, 0);
  fs.closeSync(file);
  return disk;
}

/** What mkfs.xfs makes a tree from: xfs_protofile's format, a file or directory per line. */
function prototype(tree: string): string {
  const lines = (directory: string): string[] =>
    fs.readdirSync(directory, { withFileTypes: true }).flatMap((entry) => {
      const full = path.join(directory, entry.name);
      if (entry.isDirectory()) return [`${entry.name} d--755 0 0`, ...lines(full), '$'];
      return [`${entry.name} ---644 0 0 ${full}`];
    });
  return ['/', '0 0', 'd--755 0 0', ...lines(tree), '$', ''].join('\n');
}

function masterBootRecord(): Buffer {
  const sector = Buffer.alloc(SECTOR);
  PARTITIONS.forEach(({ start, size }, n) => {
    const at = 446 + n * 16;
    sector.writeUInt8(LINUX, at + 4);
    sector.writeUInt32LE(start / SECTOR, at + 8);
    sector.writeUInt32LE(size / SECTOR, at + 12);
  });
  sector.writeUInt16LE(0xaa55, 510);
  return sector;
}

/** A read-only loop device on a file with its partitions; a kernel that knows no partition tables is told of them. */
export function loopWithPartitions(file: string): string {
  const loop = must('losetup', '-f', '-P', '--read-only', '--show', file).trim();
  if (!fs.existsSync(`/sys/block/${path.basename(loop)}/${path.basename(loop)}p1`)) must('partx', '-a', loop);
  return loop;
}

/** The device of a partition; made where nobody makes device nodes. */
export function partitionDevice(here: Place, loop: string, number: number): string {
  const device = `${loop}p${number}`;
  if (fs.existsSync(device)) return device;
  const name = path.basename(device);
  const [major = '', minor = ''] = fs.readFileSync(`/sys/class/block/${name}/dev`, 'utf8').trim().split(':');
  must('mknod', here.path(name), 'b', major, minor);
  return here.path(name);
}

/** Mounts a device or a file read-only without replaying its journal, hands the directory over, and unmounts. */
export function withMounted<T>(here: Place, source: string, options: string, look: (directory: string) => T): T {
  const directory = here.mountpoint();
  must('mount', '-o', options, source, directory);
  try {
    return look(directory);
  } finally {
    run('umount', [directory]);
  }
}

/** The options to mount a file system read-only that nobody may write to, not even to replay its journal. */
export function readOnlyOptions({ fileSystem }: Partition): string {
  return fileSystem === 'xfs' ? 'ro,norecovery,nouuid' : 'ro,noload';
}
