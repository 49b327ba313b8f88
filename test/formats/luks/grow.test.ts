/** The one change of a container that takes many writes. */
import { expect } from 'chai';
import { luks } from '../../../src/formats/luks/index.js';
import { luksImage } from '../../../src/formats/luks/samples.js';
import { Journal } from '../../../src/storage/journal.js';
import { MemoryStorage } from '../../../src/storage/memory.js';
import { writableContext } from '../../support/written.js';

const MIB = 1024 * 1024;

describe('luks, made larger', () => {
  const recipe = { mode: 'xts-plain64', keyBytes: 32, hash: 'sha256' };

  it('is durable step by step, and reads as zeros', () => {
    const journal = new Journal();
    const storage = MemoryStorage.from(luksImage(recipe, Buffer.alloc(MIB, 7)), 'disk');
    const image = luks.open(journal.record(storage), writableContext());
    image.resize(130 * MIB);
    const steps: number[] = [0];
    for (const entry of journal.entries) {
      if (entry.kind === 'flush') steps.push(0);
      else if (entry.kind === 'write') steps[steps.length - 1]! += entry.bytes.length;
    }
    expect(Math.max(...steps)).to.equal(64 * MIB);
    expect(steps.at(-1), 'after the last barrier').to.equal(0);
    expect(steps.reduce((sum, bytes) => sum + bytes)).to.equal(129 * MIB);
    const disk = Buffer.alloc(MIB);
    for (const at of [MIB, 64 * MIB, 65 * MIB, 129 * MIB]) {
      image.read(disk, at);
      expect(disk.every((byte) => byte === 0)).to.equal(true);
    }
    image.close();
  });

  it('begins behind the last whole sector: what is left of one does not become part of the disk', () => {
    const whole = luksImage(recipe, Buffer.alloc(4096, 7));
    const storage = MemoryStorage.from(Buffer.concat([whole, Buffer.alloc(100, 9)]), 'disk');
    const image = luks.open(storage, writableContext());
    expect(image.size).to.equal(4096);
    image.resize(8192);
    const disk = Buffer.alloc(8192);
    image.read(disk, 0);
    expect(disk.equals(Buffer.concat([Buffer.alloc(4096, 7), Buffer.alloc(4096)]))).to.equal(true);
    image.close();
  });
});
