import { execFileSync, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { formats } from '../../src/formats/index.js';
import { lockForReading } from '../../src/image/lock.js';
import { type OpenedImage, openImage } from '../../src/image/open.js';
import { SystemCallError } from '../../src/lib/libc.js';
import { MAIN } from '../support/imgfs.js';
import { withoutFfi } from '../support/no-ffi.js';
import { failure, outcome } from '../support/outcome.js';
import { needsTool, qemuImg } from '../support/qemu.js';
import { QemuSession } from '../support/qemu-session.js';
import { scratch, withScratch } from '../support/scratch.js';

function open(file: string, forceShare = false, format?: string): OpenedImage {
  return openImage(file, {
    formats,
    format,
    references: { follow: true, allowed: [] },
    forceShare,
    warn: (message) => {
      throw new Error(`unexpected warning: ${message}`);
    },
  });
}

/** How opening and reading ended. */
function tryOpen(file: string, forceShare = false, format?: string): string {
  return outcome(() => {
    const { image } = open(file, forceShare, format);
    image.read(new Uint8Array(512), 0);
    image.close();
  });
}

async function tryQemu(...args: readonly string[]): Promise<string> {
  try {
    const session = await QemuSession.open(...args);
    await session.close();
    return 'done';
  } catch (error) {
    return /lock/.test(String(error)) ? 'locked' : String(error);
  }
}

async function whileQemu(args: readonly string[], body: (session: QemuSession) => unknown): Promise<void> {
  const session = await QemuSession.open(...args);
  try {
    await body(session);
  } finally {
    await session.close();
  }
}

describe('locks', () => {
  needsTool('qemu-img', 'qemu-io');
  const place = scratch();
  const image = (): string => place.path('disk.qcow2');
  const overlay = (): string => place.path('over.qcow2');
  const rawDisk = (): string => place.path('disk.raw');

  before(() => {
    qemuImg('create', '-q', '-f', 'qcow2', image(), '1M');
    qemuImg('create', '-q', '-f', 'raw', rawDisk(), '1M');
    qemuImg('create', '-q', '-f', 'qcow2', '-b', image(), '-F', 'qcow2', overlay());
  });

  /** How QEMU uses the image, and whether that goes with us reading it, alone or shared. */
  const uses: readonly (readonly [string, () => readonly string[], { reading: string; shared: string }])[] = [
    ['rw', () => ['-f', 'qcow2', image()], { reading: 'locked', shared: 'done' }],
    ['ro', () => ['-r', '-f', 'qcow2', image()], { reading: 'done', shared: 'done' }],
    ['-U', () => ['-r', '-U', '-f', 'qcow2', image()], { reading: 'done', shared: 'done' }],
    ['overlay rw', () => ['-f', 'qcow2', overlay()], { reading: 'done', shared: 'done' }],
  ];
  for (const [name, args, expected] of uses) {
    for (const forceShare of [false, true]) {
      const end = forceShare ? expected.shared : expected.reading;
      const ours = forceShare ? 'shared' : 'ro';

      it(`lock-matrix: QEMU ${name} first, then imgfs ${ours}: ${end}`, () =>
        whileQemu(args(), () => expect(tryOpen(image(), forceShare)).to.equal(end)));

      it(`lock-matrix: imgfs ${ours} first, then QEMU ${name}: ${end}`, async () => {
        const opened = open(image(), forceShare);
        try {
          expect(await tryQemu(...args())).to.equal(end);
        } finally {
          opened.image.close();
        }
      });
    }
  }

  it('names the process that writes, and not one that reads', () =>
    whileQemu(['-r', '-U', '-f', 'qcow2', image()], (reader) =>
      whileQemu(['-f', 'qcow2', image()], (writer) => {
        const error = failure(() => open(image()));
        expect(error?.message).to.include(`qemu-io (pid ${writer.pid})`).and.not.include(`${reader.pid}`);
        expect(error?.hint).to.include('--force-share');
      }),
    ));

  it('goes together with qemu-img info, check and convert', () => {
    const opened = open(image());
    for (const args of [
      ['info', image()],
      ['check', image()],
      ['convert', '-O', 'raw', image(), place.path('copy')],
    ]) {
      qemuImg(...args);
    }
    opened.image.close();
  });

  it('locks raw disks the same way', async () => {
    await whileQemu(['-f', 'raw', rawDisk()], () => {
      expect(tryOpen(rawDisk())).to.equal('locked');
      expect(tryOpen(rawDisk(), true)).to.equal('done');
    });
    const opened = open(rawDisk());
    expect(await tryQemu('-f', 'raw', rawDisk())).to.equal('locked');
    expect(await tryQemu('-r', '-f', 'raw', rawDisk())).to.equal('done');
    opened.image.close();
    expect(await tryQemu('-f', 'raw', rawDisk())).to.equal('done');
  });

  it('locks the backing file too, and says which file is in use', async () => {
    await whileQemu(['-f', 'qcow2', image()], () => {
      const error = failure(() => open(overlay()));
      expect(error?.reason).to.equal('locked');
      expect(error?.message).to.include(image());
      expect(tryOpen(overlay(), true)).to.equal('done');
    });
    const opened = open(overlay());
    expect(await tryQemu('-f', 'qcow2', image())).to.equal('locked');
    expect(await tryQemu('-f', 'qcow2', overlay())).to.equal('locked');
    expect(await tryQemu('-r', '-f', 'qcow2', image())).to.equal('done');
    opened.image.close();
    expect(await tryQemu('-f', 'qcow2', image())).to.equal('done');
  });

  it('ends with close, and after an open that failed', async () => {
    open(image()).image.close();
    expect(await tryQemu('-f', 'qcow2', image())).to.equal('done');
    expect(tryOpen(image(), false, 'qcow2')).to.equal('done');
    const broken = place.path('broken.qcow2');
    fs.writeFileSync(broken, fs.readFileSync(image()).subarray(0, 70_000));
    expect(tryOpen(broken)).to.not.equal('done');
    expect(await tryQemu('-f', 'raw', broken)).to.equal('done');
  });

  it('lets one process open a file twice, and keeps the lock until the last is closed', async () => {
    const [first, second, third] = [open(image()), open(image()), open(overlay())];
    first.image.close();
    expect(await tryQemu('-f', 'qcow2', image())).to.equal('locked');
    second.image.close();
    expect(await tryQemu('-f', 'qcow2', image())).to.equal('locked');
    third.image.close();
    expect(await tryQemu('-f', 'qcow2', image())).to.equal('done');
  });

  it('refuses before it believes anything: not even the header is read while somebody writes', () => {
    const garbage = place.path('garbage.qcow2');
    fs.writeFileSync(garbage, Buffer.alloc(2 ** 20, 0xff));
    expect(tryOpen(garbage, false, 'qcow2')).to.equal('corrupt');
    return whileQemu(['-f', 'raw', garbage], () => expect(tryOpen(garbage, false, 'qcow2')).to.equal('locked'));
  });
});

describe('locks, where there are none', () => {
  function request(warnings: string[]): Parameters<typeof lockForReading>[0] {
    return { fd: -1, path: '/x', name: 'disk', sharing: 'no-writers', warn: (message) => void warnings.push(message) };
  }

  for (const [code, errno] of [
    ['ENOLCK', 37],
    ['EOPNOTSUPP', 95],
    ['ENOSYS', 38],
    ['EINVAL', 22],
  ] as const) {
    it(`warns and reads on a file system that answers ${code}`, () => {
      for (const failing of ['lockShared', 'isLockedByOther'] as const) {
        const warnings: string[] = [];
        const taken = new Set<number>();
        const calls = {
          lockShared: (_fd: number, byte: number) => taken.add(byte) !== undefined,
          unlock: (_fd: number, byte: number) => void taken.delete(byte),
          isLockedByOther: () => false,
          [failing]: () => {
            throw new SystemCallError('fcntl', errno);
          },
        };
        lockForReading(request(warnings), calls);
        expect(warnings.length).to.equal(1);
        expect(warnings[0]).to.include('disk').and.include(code);
        expect([...taken]).to.deep.equal([]);
      }
    });
  }

  it('passes on what is no answer about locks', () => {
    const fail = (): never => {
      throw new SystemCallError('fcntl', 9);
    };
    const calls = { lockShared: fail, unlock: () => {}, isLockedByOther: () => false };
    expect(() => lockForReading(request([]), calls)).to.throw(SystemCallError);
  });

  it('is locked where somebody holds a lock of another kind, and takes its own back', () => {
    const taken = new Set<number>();
    const calls = {
      lockShared: (_fd: number, byte: number) => (byte < 203 ? taken.add(byte) !== undefined : false),
      unlock: (_fd: number, byte: number) => void taken.delete(byte),
      isLockedByOther: () => false,
    };
    expect(outcome(() => lockForReading(request([]), calls))).to.equal('locked');
    expect([...taken]).to.deep.equal([]);
  });

  it('without the FFI: warns, reads what needs no second file, and follows no reference', () =>
    withScratch('locks', (directory) => {
      const env = withoutFfi({
        file(name, bytes) {
          fs.writeFileSync(path.join(directory, name), bytes);
          return path.join(directory, name);
        },
      });
      const disk = path.join(directory, 'disk.raw');
      fs.writeFileSync(disk, Buffer.alloc(4096, 1));
      const run = (...args: string[]) =>
        spawnSync(process.execPath, [MAIN, ...args], { encoding: 'utf8', env: { ...process.env, ...env } });
      const plain = run('map', disk);
      expect(plain.status).to.equal(0);
      expect(plain.stderr).to.match(/^imgfs: .*locks on .*disk.raw are not checked: the FFI/);
      const overlay = path.join(directory, 'over.qcow2');
      execFileSync('qemu-img', ['create', '-q', '-f', 'qcow2', '-b', disk, '-F', 'raw', overlay]);
      const chain = run('map', overlay);
      expect(chain.status).to.equal(1);
      expect(chain.stderr).to.match(/is refused: without the FFI/);
      expect(run('info', overlay).status).to.equal(0);
    }));
});
