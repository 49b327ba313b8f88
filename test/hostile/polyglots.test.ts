import fs from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { formats } from '../../src/formats/index.js';
import { goodSamples } from '../../src/formats/qcow2/samples/catalogue.js';
import { SampleImage } from '../../src/formats/qcow2/samples/image.js';
import { identify } from '../../src/image/probe.js';
import { MemoryStorage } from '../../src/storage/memory.js';
import { outcome } from '../support/outcome.js';
import { needsTool, qemuImg } from '../support/qemu.js';
import { withScratch } from '../support/scratch.js';

/** The format found, or why none. */
function probed(bytes: Uint8Array, name = 'disk.img', declared?: string): string {
  const storage = MemoryStorage.from(bytes, name);
  let found = '';
  const reason = outcome(() => {
    found = identify({ storage, formats, declared, device: false }).name;
  });
  return reason === 'done' ? found : reason;
}

function qcow2(clusterBits = 16): Buffer {
  const recipe = new SampleImage({ size: 2 ** 20, clusterBits });
  return Buffer.concat([recipe.write(0, Buffer.alloc(recipe.clusterSize, 1)).build(), Buffer.alloc(100_000)]);
}

/** Makes any bytes an ISO 9660 file system too. */
function withIso(bytes: Buffer): Buffer {
  bytes.write('\x01CD001\x01', 32_768, 'latin1');
  return bytes;
}

/** One partition of 1 MiB, as fdisk leaves it. */
function withMbr(bytes: Buffer, type = 0x83): Buffer {
  bytes.fill(0, 446, 510);
  bytes.writeUInt8(type, 450);
  bytes.writeUInt32LE(2048, 454);
  bytes.writeUInt32LE(2048, 458);
  bytes.writeUInt16BE(0x55aa, 510);
  return bytes;
}

function withGpt(bytes: Buffer, sector = 512): Buffer {
  bytes.write('EFI PART', sector, 'latin1');
  return bytes;
}

const VMDK_TEXT = '# Disk DescriptorFile\nversion=1\nCID=fffffffe\n';

function vmdk(): Buffer {
  const bytes = Buffer.alloc(2 ** 18);
  bytes.write('KDMV\x01');
  return bytes;
}

describe('hostile: files that are two things at once', () => {
  it('polyglot-iso-qcow2: refused', () => expect(probed(withIso(qcow2()))).to.equal('refused'));

  it('polyglot-mbr-qcow2: refused, with clusters of any size', () => {
    for (const bits of [9, 12, 16, 21]) expect(probed(withMbr(qcow2(bits)))).to.equal('refused');
  });

  it('polyglot-gpt-qcow2: refused, with sectors of either size', () => {
    expect(probed(withGpt(qcow2()))).to.equal('refused');
    expect(probed(withGpt(qcow2(), 4096))).to.equal('refused');
    expect(probed(withMbr(withGpt(qcow2(9)), 0xee))).to.equal('refused');
  });

  it('polyglot-gpt-vmdk: refused, sparse or text', () => {
    expect(probed(withGpt(vmdk()))).to.equal('refused');
    expect(probed(withMbr(vmdk()))).to.equal('refused');
    const text = Buffer.alloc(4096, '#\n');
    text.write(VMDK_TEXT);
    expect(probed(withGpt(text))).to.equal('refused');
  });

  it('polyglot-text-vmdk: a descriptor after comments is a vmdk, never a raw disk', () => {
    expect(probed(Buffer.from(VMDK_TEXT))).to.equal('vmdk');
    expect(probed(Buffer.from(`# a comment\n\n${VMDK_TEXT}`))).to.equal('vmdk');
    expect(probed(Buffer.from('version = 1\nCID=1\n'))).to.equal('vmdk');
  });

  it('polyglot-two-formats: refused, whichever two', () => {
    const end = qcow2();
    end.write('conectix', end.length - 512, 'latin1');
    expect(probed(end)).to.equal('refused');
    const vdi = qcow2();
    vdi.writeUInt32BE(0x7f10dabe, 64);
    expect(probed(vdi)).to.equal('refused');
    const tar = qcow2();
    tar.write('ustar', 257);
    expect(probed(tar)).to.equal('refused');
  });

  it('polyglot-name: a name that contradicts the content is refused, a declared format decides', () => {
    expect(probed(qcow2(), 'disk.vmdk')).to.equal('refused');
    expect(probed(Buffer.alloc(4096), 'disk.qcow2')).to.equal('refused');
    for (const name of ['disk.raw', 'disk.dd', 'cd.iso']) expect(probed(withIso(qcow2()), name)).to.equal('raw');
    expect(probed(withIso(qcow2()), 'disk.img', 'qcow2')).to.equal('qcow2');
    expect(probed(withIso(qcow2()), 'disk.qcow2', 'raw')).to.equal('raw');
  });

  it('leaves raw disks with such content alone', () => {
    for (const make of [withIso, withMbr, withGpt]) expect(probed(make(Buffer.alloc(100_000)))).to.equal('raw');
  });

  it('does not mistake a boot sector, or boot code in a header, for a partition table', () => {
    const bytes = qcow2();
    bytes.writeUInt16BE(0x55aa, 510);
    expect(probed(bytes)).to.equal('qcow2');
    bytes.fill(0x41, 446, 510);
    expect(probed(bytes)).to.equal('qcow2');
  });

  it("does not hold a guest's data against its image", () => {
    const disk = withIso(withGpt(withMbr(Buffer.alloc(2 ** 18, 1))));
    for (const clusterBits of [9, 10, 11, 12, 13, 14, 15, 16]) {
      for (const shuffle of [undefined, 1, 2, 3, 4, 5]) {
        const options = shuffle === undefined ? { clusterBits } : { clusterBits, shuffle };
        expect(probed(new SampleImage({ size: disk.length, ...options }).write(0, disk).build())).to.equal('qcow2');
      }
    }
    // Even where the guest's sector lies exactly where a CD would have it.
    expect(probed(withIso(qcow2(12)))).to.equal('qcow2');
  });

  it('accepts every good sample', () => {
    for (const sample of goodSamples()) expect(probed(sample.image), sample.name).to.equal('qcow2');
  });

  describe('made by qemu-img', () => {
    needsTool('qemu-img');

    it('accepts disks of every cluster size that hold partitions and CDs', () =>
      withScratch('polyglot', (directory) => {
        const raw = path.join(directory, 'disk.raw');
        fs.writeFileSync(raw, withIso(withGpt(withMbr(Buffer.alloc(2 ** 20, 1)))));
        const made = path.join(directory, 'disk.qcow2');
        for (const size of [512, 1024, 2048, 4096, 8192, 16_384, 32_768, 65_536, 2 ** 21]) {
          for (const extra of ['', ',preallocation=metadata', ',data_file_raw=off']) {
            qemuImg('convert', '-f', 'raw', '-O', 'qcow2', '-o', `cluster_size=${size}${extra}`, raw, made);
            expect(probed(fs.readFileSync(made).subarray(0, 2 ** 17), made)).to.equal('qcow2');
          }
        }
      }));
  });
});

describe('hostile: probing', () => {
  it('probe-backtracking: no text keeps a probe busy', () => {
    const texts = ['\n', ' ', '#\n', '# \n', ' \n', '\t#', 'version ', 'version =1', '\r\n', '# Disk '];
    for (const text of texts) {
      for (const end of ['', 'x', 'version = 1', '# Disk DescriptorFil']) {
        const started = performance.now();
        probed(Buffer.from(text.repeat(70_000 / text.length) + end));
        expect(performance.now() - started, JSON.stringify(text)).to.be.lessThan(500);
      }
    }
  });
});
