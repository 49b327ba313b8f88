import { expect } from 'chai';
import { EncryptedQemu, openEncrypted, passwordFile } from '../../support/encrypted.js';
import { readAll } from '../../support/images.js';
import { needsTool, qemuImg } from '../../support/qemu.js';
import { scratch } from '../../support/scratch.js';
import { Random } from '../../support/seed.js';

const SIZE = 5 * 1024 * 1024 + 512;
const LUKS = 'encrypt.format=luks,encrypt.iter-time=10';
const AES = 'encrypt.format=aes';
/** Each time QEMU opens or makes a LUKS header takes it a second or more: fewer of those. */
const KINDS = [
  ...['cluster_size=512', 'cluster_size=4k', '', 'cluster_size=2M', 'extended_l2=on', 'compat=0.10'].map(
    (shape) => [AES, shape] as const,
  ),
  ...['cluster_size=512', 'cluster_size=2M', 'extended_l2=on'].map((shape) => [LUKS, shape] as const),
] as const;

describe('encrypted qcow2, beside QEMU', () => {
  needsTool('qemu-img', 'qemu-io');
  const directory = scratch();
  const qemu = (): EncryptedQemu => new EncryptedQemu('qcow2', passwordFile(directory.path('secret')));

  for (const [method, shape] of KINDS) {
    it(`${method} ${shape}: written by both, read by both, snapshots too`, () => {
      const file = directory.path('disk.qcow2');
      qemu().create(file, [`encrypt.key-secret=s,${method}`, ...(shape === '' ? [] : [shape])].join(','), SIZE);
      qemu().io(file, 'write -P 0x5a 1k 70k', 'write -P 0x77 1M 2M', `write -P 3 ${SIZE - 512} 512`, 'write -z 64k 8k');
      const before = qemu().bytes(file);
      const image = openEncrypted(file, { write: true });
      expect(readAll(image).equals(before), 'what QEMU wrote').to.equal(true);
      const disk = Buffer.from(before);
      const random = new Random();
      scribble(image, disk, random, 20);
      image.createSnapshot(Buffer.from('past'));
      const past = Buffer.from(disk);
      scribble(image, disk, random, 20);
      const [snapshot] = image.snapshots();
      const earlier = image.openSnapshot(snapshot?.id ?? '');
      expect(readAll(earlier).equals(past), 'the snapshot').to.equal(true);
      earlier.close();
      expect(readAll(image).equals(disk), 'what imgfs wrote').to.equal(true);
      image.close();
      qemu().expectClean(file);
      expect(qemu().bytes(file).equals(disk), 'what imgfs wrote, read by QEMU').to.equal(true);
      expect(qemu().bytes(file, '-l', 'past').subarray(0, SIZE).equals(past), 'the snapshot, by QEMU').to.equal(true);
      qemu().io(file, 'write -P 0x33 65536 4096');
      disk.fill(0x33, 65_536, 65_536 + 4096);
      const again = openEncrypted(file);
      expect(readAll(again).equals(disk), 'what QEMU wrote into it').to.equal(true);
      again.close();
    });
  }

  it('above a backing file that is encrypted otherwise', () => {
    const base = directory.path('base.qcow2');
    const file = directory.path('over.qcow2');
    qemu().create(base, 'encrypt.key-secret=s,encrypt.format=aes', SIZE);
    qemu().io(base, 'write -P 0x5a 0 1M');
    qemuImg('create', '-q', '-f', 'qcow2', '-b', base, '-F', 'qcow2', file);
    const image = openEncrypted(file, { write: true });
    const disk = Buffer.alloc(SIZE).fill(0x5a, 0, 1024 * 1024);
    expect(readAll(image).equals(disk)).to.equal(true);
    scribble(image, disk, new Random(), 10);
    expect(readAll(image).equals(disk)).to.equal(true);
    image.close();
  });

  it('with a wrong passphrase it does not open', () => {
    const file = directory.path('locked.qcow2');
    qemu().create(file, `encrypt.key-secret=s,${LUKS}`, SIZE);
    expect(() => openEncrypted(file, { passphrase: 'another' })).to.throw(/locked\.qcow2: wrong passphrase$/);
  });
});

function scribble(image: ReturnType<typeof openEncrypted>, disk: Buffer, random: Random, count: number): void {
  for (let n = 0; n < count; n++) {
    const at = random.below(image.size - 1);
    const bytes = random.bytes(1 + random.below(Math.min(n % 4 === 0 ? 300_000 : 3000, image.size - at)));
    image.write(bytes, at);
    bytes.copy(disk, at);
    if (n % 5 === 4) {
      image.zero(at, bytes.length, { unmap: n % 2 === 0 });
      disk.fill(0, at, at + bytes.length);
    }
  }
  image.flush();
}
