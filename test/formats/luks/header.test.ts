import { expect } from 'chai';
import { luks } from '../../../src/formats/luks/index.js';
import { luksImage } from '../../../src/formats/luks/samples.js';
import { MemoryStorage } from '../../../src/storage/memory.js';
import { closedContext } from '../../support/images.js';
import { failure, outcome } from '../../support/outcome.js';
import { sampleContext } from '../../support/samples.js';
import { Random, SEED } from '../../support/seed.js';

const DISK = new Random(1).bytes(8192);
const HEADER_BYTES = 592;
const PATIENCE = 2000;

function image(): Buffer {
  return luksImage({ mode: 'xts-plain64', keyBytes: 64, hash: 'sha256', slots: [0, 4] }, DISK);
}

function open(bytes: Buffer): void {
  const opened = luks.open(MemoryStorage.from(bytes, 'it'), sampleContext());
  try {
    opened.read(new Uint8Array(512), 0);
  } finally {
    opened.close();
  }
}

describe('LUKS headers made by an enemy', () => {
  it('luks-iterations: a count that would take hours is refused before any work', () => {
    for (const [name, at] of [
      ['the slot', 208 + 4],
      ['another slot', 208 + 4 * 48 + 4],
      ['the digest', 164],
    ] as const) {
      const bytes = image();
      bytes.writeUInt32BE(0xffffffff, at);
      const started = performance.now();
      expect(
        outcome(() => open(bytes)),
        name,
      ).to.equal('limit');
      expect(performance.now() - started, name).to.be.lessThan(PATIENCE);
    }
  });

  it('luks-fields: every field with hostile values is refused, or opens what it did before', () => {
    for (let at = 6; at + 4 <= HEADER_BYTES; at += 4) {
      for (const value of [0, 1, 0x7fffffff, 0xffffffff]) {
        const bytes = image();
        bytes.writeUInt32BE(value, at);
        const started = performance.now();
        const opened = luks.probe(bytes, bytes, bytes.length) ? outcome(() => open(bytes)) : 'unsupported';
        expect(opened).to.be.oneOf(['done', 'corrupt', 'truncated', 'limit', 'unsupported', 'passphrase']);
        expect(performance.now() - started, `${value} at ${at}`).to.be.lessThan(PATIENCE);
      }
    }
  });

  it('random damage never throws anything but one clean line', () => {
    const random = new Random(SEED);
    for (let trial = 0; trial < 500; trial++) {
      const bytes = image();
      for (let n = 0; n < 3; n++) bytes[8 + random.below(HEADER_BYTES - 8)] = random.below(256);
      // As many iterations as are allowed take their time.
      for (const at of [164, 208 + 4, 208 + 4 * 48 + 4]) bytes.writeUInt32BE(2, at);
      failure(() => open(bytes));
    }
  });

  it('cut anywhere in its header and slots, it is refused', () => {
    const bytes = image();
    for (let length = 8; length < bytes.length - DISK.length; length += 64) {
      expect(outcome(() => open(bytes.subarray(0, length)))).to.be.oneOf(['truncated', 'corrupt']);
    }
  });

  it('slots on each other, on the header and on the data', () => {
    const [slot, next, payload] = [208, 256, 104];
    for (const [what, change] of [
      ['each other', (bytes: Buffer) => bytes.writeUInt32BE(bytes.readUInt32BE(slot + 40), next + 40)],
      ['the header', (bytes: Buffer) => bytes.writeUInt32BE(1, slot + 40)],
      ['the data', (bytes: Buffer) => bytes.writeUInt32BE(bytes.readUInt32BE(slot + 40), payload)],
    ] as const) {
      const bytes = image();
      change(bytes);
      expect(
        outcome(() => open(bytes)),
        what,
      ).to.equal('corrupt');
    }
  });

  it('a detached header is refused by name', () => {
    const bytes = image();
    bytes.writeUInt32BE(0, 104);
    expect(failure(() => open(bytes))?.message).to.match(/a detached LUKS header: its data lies in another file/);
  });

  it('opens without a passphrase, to be described and not read', () => {
    const opened = luks.open(MemoryStorage.from(image(), 'it'), closedContext());
    expect(opened.size).to.equal(DISK.length);
    expect(opened.info.specific?.data).to.have.property('cipher-alg', 'aes-256');
    expect(outcome(() => opened.read(new Uint8Array(1), 0))).to.equal('passphrase');
    expect(opened.extent(0, 512)).not.to.have.any.keys('storage', 'offset');
    opened.close();
  });

  it('two threads that write halves of one sector: only whole sectors are overwritten side by side', () => {
    const context = { ...sampleContext(), writable: true };
    const opened = luks.open(MemoryStorage.from(image(), 'it'), context);
    expect(opened.overwrite(new Uint8Array(100), 0)).to.equal(0);
    expect(opened.overwrite(new Uint8Array(600), 512)).to.equal(512);
    expect(opened.overwrite(new Uint8Array(1024), 1)).to.equal(0);
    opened.write(new Uint8Array(100), 7);
    const read = Buffer.alloc(512);
    opened.read(read, 0);
    expect(read.equals(Buffer.from(DISK.subarray(0, 512)).fill(0, 7, 107))).to.equal(true);
    opened.close();
  });
});
