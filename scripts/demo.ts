/**
 * What `make run` shows: the main job, on a real image, with the real program. With an image (and a mountpoint) it
 * mounts that and leaves it mounted; with none it builds a small one, mounts, lists, reads, unmounts and cleans up.
 */
import { spawnSync } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { fromDisks } from '../src/formats/qcow2/samples/image.js';

const IMGFS = fileURLToPath(new URL('../src/imgfs.cjs', import.meta.url));
const SHOWN = path.relative(process.cwd(), IMGFS);

/** Runs a command in the open, as a user would type it. Returns whether it succeeded. */
function run(command: string, ...args: readonly string[]): boolean {
  const shown = command === IMGFS ? ['node', SHOWN, ...args] : [command, ...args];
  console.log(`\n$ ${shown.map(quoted).join(' ')}`);
  const [program, all] = command === IMGFS ? [process.execPath, [IMGFS, ...args]] : [command, [...args]];
  return spawnSync(program, all, { stdio: 'inherit', env: { ...process.env, PATH: searchPath() } }).status === 0;
}

function quoted(word: string): string {
  return /^[\w./:=,@%+-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}

/** mke2fs is where an ordinary user's PATH does not look. */
function searchPath(): string {
  return `${process.env.PATH ?? ''}:/usr/sbin:/sbin`;
}

function has(program: string): boolean {
  return searchPath()
    .split(':')
    .some((directory) => fs.existsSync(path.join(directory, program)));
}

/** What keeps this machine from mounting, as the command that mends it; undefined when nothing does. */
function obstacle(): string | undefined {
  if (!fs.existsSync('/dev/fuse')) return 'modprobe fuse    (in a container: start it with --device /dev/fuse)';
  if (process.getuid?.() === 0 || has('fusermount3')) return undefined;
  return 'sudo apt-get install -y fuse3';
}

/** A file system with one more file in each of three states. Returns the states' raw disks, oldest first. */
function fileSystems(directory: string): readonly Buffer[] {
  const tree = path.join(directory, 'tree');
  fs.mkdirSync(tree);
  return ['installed', 'configured', 'in use'].map((state, n) => {
    fs.writeFileSync(path.join(tree, `${n + 1}-${state.replace(' ', '-')}.txt`), `This disk was ${state}.\n`);
    fs.writeFileSync(path.join(tree, `${n + 1}.bin`), randomBytes(200_000));
    const raw = path.join(directory, 'disk.tmp');
    fs.rmSync(raw, { force: true });
    // The same identity in each state, so that what did not change is the same in all of them.
    const same = ['-U', '11111111-2222-3333-4444-555555555555', '-E', 'hash_seed=11111111-2222-3333-4444-555555555555'];
    const made = spawnSync('mke2fs', ['-q', '-t', 'ext4', ...same, '-d', tree, raw, '16M'], {
      env: { ...process.env, PATH: searchPath() },
      encoding: 'utf8',
    });
    if (made.status !== 0) throw new Error(`mke2fs failed: ${made.stderr ?? 'not found'}`);
    return fs.readFileSync(raw);
  });
}

function buildImage(directory: string): string {
  const [first, second, third] = fileSystems(directory) as [Buffer, Buffer, Buffer];
  const image = path.join(directory, 'sample.qcow2');
  fs.writeFileSync(
    image,
    fromDisks([{ snapshot: 'installed', disk: first }, { snapshot: 'configured', disk: second }, { disk: third }]),
  );
  return image;
}

/** Mounts the user's image and leaves it. */
function mountGiven(image: string, mountpoint: string | undefined): number {
  const where = mountpoint ?? fs.mkdtempSync(path.join(os.tmpdir(), 'imgfs-'));
  fs.mkdirSync(where, { recursive: true });
  if (!run(IMGFS, 'mount', image, where)) return 1;
  if (fs.statSync(where).isDirectory()) run('ls', '-lR', where);
  console.log(`\nIt stays mounted. To stop:\n  node ${SHOWN} umount ${quoted(where)}`);
  return 0;
}

function showSample(directory: string): number {
  const image = buildImage(directory);
  const mountpoint = path.join(directory, 'mnt');
  fs.mkdirSync(mountpoint);
  if (!run(IMGFS, 'info', image)) return 1;
  const needed = obstacle();
  if (needed !== undefined) {
    console.log(`\nThis machine cannot mount yet. To install what is missing:\n  ${needed}`);
    return 1;
  }
  if (!run(IMGFS, 'mount', image, mountpoint)) return 1;
  let seen = false;
  try {
    seen = look(directory, mountpoint);
  } finally {
    if (!run(IMGFS, 'umount', mountpoint)) seen = false;
  }
  if (!seen) return 1;
  console.log(`
To repeat it with an image of your own:
  make run IMAGE=/path/to/image.qcow2 MNT=/path/to/mountpoint
or, without make:
  node ${SHOWN} mount /path/to/image.qcow2 /path/to/mountpoint
  node ${SHOWN} umount /path/to/mountpoint`);
  return 0;
}

/** Lists and reads; true when the bytes are those the image was made from. */
function look(directory: string, mountpoint: string): boolean {
  run('ls', '-ls', mountpoint, path.join(mountpoint, 'snapshots'));
  run('debugfs', '-R', 'ls -p /', path.join(mountpoint, 'snapshots', 'installed.raw'));
  run('debugfs', '-R', 'cat /3-in-use.txt', path.join(mountpoint, 'disk.raw'));
  const sum = (file: string): string => createHash('sha256').update(fs.readFileSync(file)).digest('hex');
  const same = sum(path.join(mountpoint, 'disk.raw')) === sum(path.join(directory, 'disk.tmp'));
  console.log(`\ndisk.raw ${same ? 'equals' : 'DIFFERS FROM'} the disk the image was made from, byte by byte`);
  return same;
}

const [image, mountpoint] = process.argv.slice(2);
if (image !== undefined) process.exitCode = mountGiven(image, mountpoint);
else {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'imgfs-demo-'));
  try {
    process.exitCode = showSample(directory);
  } finally {
    fs.rmSync(directory, { recursive: true, force: true });
  }
}
