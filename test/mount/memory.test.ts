/**
 * A file system on a loop device on a view, written back under a memory limit: the server must not wait for memory
 * that only it can free.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { mounts } from '../../src/fuse/mountinfo.js';
import { eventually, itWhere, mountObstacle, place, unless } from '../support/place.js';
import { IMGFS, imgfs, must, run } from '../support/program.js';
import { needsTool, qemuImg } from '../support/qemu.js';
import { hasTool } from '../support/scratch.js';

const MIB = 1024 * 1024;
/** Version 1: only there does the kernel let an allocation wait for writeback without end. */
const CONTROLLER = '/sys/fs/cgroup/memory';
const CONTROL_FILES = '/sys/fs/fuse/connections';
const PATIENCE = 60_000;
/** A writer that has not got on for so long will not. */
const STUCK = 5000;
const SYS_RESOURCE = 24n;

function obstacle(): string | undefined {
  if (process.geteuid?.() !== 0) return 'not root';
  if (!fs.existsSync(`${CONTROLLER}/memory.limit_in_bytes`)) return `no memory controller at ${CONTROLLER} (cgroup v1)`;
  if (!hasTool('mkfs.ext4')) return 'no mkfs.ext4';
  return mountObstacle();
}

/** A group of processes that together may use so much memory. */
class Group {
  private readonly path = `${CONTROLLER}/imgfs-test-${process.pid}`;

  constructor(bytes: number) {
    fs.mkdirSync(this.path);
    fs.writeFileSync(`${this.path}/memory.limit_in_bytes`, String(bytes));
  }

  /** A shell script that first joins the group. */
  script(text: string): readonly string[] {
    return ['-ec', `echo $$ > ${this.path}/cgroup.procs\n${text}`];
  }

  /** How often something had to be given back before something could be had. */
  get refusals(): number {
    return Number(fs.readFileSync(`${this.path}/memory.failcnt`, 'utf8'));
  }

  async remove(): Promise<void> {
    await eventually('the group is empty', () => fs.readFileSync(`${this.path}/cgroup.procs`, 'utf8') === '');
    await eventually('the group is gone', () => run('rmdir', [this.path]).code === 0);
  }
}

function mayFlush(): boolean {
  const capabilities = /^CapEff:\s*([0-9a-f]+)/m.exec(fs.readFileSync('/proc/self/status', 'utf8'))?.[1] ?? '0';
  return (BigInt(`0x${capabilities}`) / 2n ** SYS_RESOURCE) % 2n === 1n;
}

describe('memory under a limit', function () {
  this.timeout(2 * PATIENCE);
  unless(obstacle());
  needsTool('qemu-img', 'losetup');
  const here = place();
  let group: Group | undefined;
  let count = 0;

  afterEach(async () => {
    await group?.remove();
    group = undefined;
  });

  interface Pressed {
    readonly file: string;
    readonly at: string;
    readonly loop: string;
    readonly files: string;
  }

  /** A view with ext4 on a loop device on it; its server within the group, or not. */
  function prepared(mode: string, within: Group | undefined): Pressed {
    count += 1;
    const file = here.path(`disk-${count}.qcow2`);
    qemuImg('create', '-q', '-f', 'qcow2', file, '1G');
    const at = here.mountpoint();
    const mount = `exec "${process.execPath}" "${IMGFS}" mount --adapter=kernel --cache=${mode} "${file}" "${at}"`;
    must('sh', ...(within?.script(mount) ?? ['-c', mount]));
    const loop = must('losetup', '-f', '--show', path.join(at, 'disk.raw')).trim();
    must('mkfs.ext4', '-q', loop);
    const files = here.mountpoint();
    must('mount', loop, files);
    return { file, at, loop, files };
  }

  function writer(inside: Group, { files }: Pressed): ChildProcess {
    const text = `exec dd if=/dev/zero of=${files}/big bs=1M count=256 conv=fsync status=none`;
    return spawn('sh', inside.script(text), { stdio: 'ignore' });
  }

  async function ended({ file, at, loop, files }: Pressed): Promise<void> {
    must('umount', files);
    must('losetup', '-d', loop);
    await eventually('the mount can be ended', () => imgfs('umount', at).code === 0);
    qemuImg('check', '-q', file);
  }

  /** Resolves with whether it went on to its end, a stop of STUCK milliseconds meaning that it does not. */
  async function goesOn(child: ChildProcess, { file }: Pressed): Promise<boolean> {
    let [since, blocks] = [performance.now(), 0];
    while (child.exitCode === null && performance.now() - since < STUCK) {
      await new Promise((resolve) => setTimeout(resolve, 50));
      const now = fs.statSync(file).blocks;
      if (now !== blocks) [since, blocks] = [performance.now(), now];
    }
    return child.exitCode !== null;
  }

  /** Every request of the mount fails from now on: whoever waits for one goes on. */
  function abort(at: string): void {
    const device = mounts()
      .find(({ mountpoint }) => mountpoint === at)
      ?.device.split(':')[1];
    const file = path.join(CONTROL_FILES, device ?? '', 'abort');
    const script = `test -e ${file} || mount -t fusectl imgfs-test ${CONTROL_FILES}; echo 1 > ${file}`;
    must('unshare', '-m', '--propagation', 'private', 'sh', '-ec', script);
  }

  for (const mode of ['writeback', 'none'] as const) {
    it(`of the writer only: --cache ${mode} writes back all there is`, async () => {
      group = new Group(48 * MIB);
      const pressed = prepared(mode, undefined);
      const child = writer(group, pressed);
      await eventually('the writer has ended', () => child.exitCode !== null);
      expect([child.exitCode, group.refusals > 0]).to.deep.equal([0, true]);
      await ended(pressed);
    });

    const lacks = mayFlush() ? undefined : 'PR_SET_IO_FLUSHER needs CAP_SYS_RESOURCE';
    itWhere(lacks, `of server and writer: --cache ${mode} writes back all there is`, async () => {
      group = new Group(150 * MIB);
      const pressed = prepared(mode, group);
      const child = writer(group, pressed);
      await eventually('the writer has ended', () => child.exitCode !== null);
      expect([child.exitCode, group.refusals > 0]).to.deep.equal([0, true]);
      await ended(pressed);
    });
  }

  it('of server and writer: it goes on, or an abort ends it at once; the image is sound', async () => {
    group = new Group(150 * MIB);
    const pressed = prepared('writeback', group);
    const child = writer(group, pressed);
    if (await goesOn(child, pressed)) {
      expect(child.exitCode).to.equal(0);
      await ended(pressed);
      return;
    }
    abort(pressed.at);
    await eventually('the writer has ended', () => child.exitCode !== null);
    await eventually('the mount is gone', () => !mounts().some(({ mountpoint }) => mountpoint === pressed.at));
    must('umount', pressed.files);
    must('losetup', '-d', pressed.loop);
    const again = here.mountpoint();
    await eventually('the image is free', () => imgfs('mount', '-o', 'rw', pressed.file, again).code === 0);
    expect(imgfs('umount', again).code).to.equal(0);
    expect(run('qemu-img', ['check', '-q', pressed.file]).code, 'sound, or clusters leaked').to.be.oneOf([0, 3]);
  });
});
