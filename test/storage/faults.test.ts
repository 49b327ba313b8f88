import { expect } from 'chai';
import { ImgfsError } from '../../src/lib/errors.js';
import { type Fault, Faults } from '../../src/storage/faults.js';
import { MemoryStorage } from '../../src/storage/memory.js';
import type { Storage } from '../../src/storage/storage.js';

/** Which of 12 operations fail (write, read, discard in turn), with the reasons. */
function run(fault: Fault): { reasons: string[]; faults: Faults; memory: MemoryStorage } {
  const memory = MemoryStorage.from(Buffer.alloc(4096, 1));
  const faults = new Faults(fault);
  const storage = faults.inject(memory);
  const steps: ((storage: Storage, n: number) => void)[] = [
    (each, n) => each.write(Buffer.alloc(8, 2), n * 8),
    (each) => void each.read(Buffer.alloc(8), 0),
    (each) => each.discard(2048, 16),
  ];
  const reasons: string[] = [];
  for (let n = 0; n < 12; n++) {
    try {
      steps[n % 3]?.(storage, n);
      reasons.push('ok');
    } catch (error) {
      reasons.push(error instanceof ImgfsError ? error.reason : 'bug');
    }
  }
  return { reasons, faults, memory };
}

describe('fault storage', () => {
  it('counts operations by kind and lets all pass without a fault', () => {
    const { reasons, faults } = run({ at: Number.POSITIVE_INFINITY, persistent: true, effect: 'io' });
    expect(reasons.every((reason) => reason === 'ok')).to.equal(true);
    expect(faults.counts).to.deep.equal({ read: 4, write: 4, flush: 0, resize: 0, discard: 4, allocate: 0 });
    expect(faults.fired).to.equal(0);
  });

  it('fails the k-th operation once, for every k', () => {
    for (let at = 1; at <= 12; at++) {
      const { reasons, faults } = run({ at, persistent: false, effect: 'io' });
      expect(reasons.map((reason, n) => (n + 1 === at ? reason === 'io' : reason === 'ok'))).to.not.include(false);
      expect(faults.fired).to.equal(1);
    }
    expect(run({ at: 13, persistent: false, effect: 'io' }).faults.fired).to.equal(0);
  });

  it('fails each from the k-th on', () => {
    const { reasons } = run({ at: 5, persistent: true, effect: 'no-space' });
    expect(reasons).to.deep.equal([...Array(4).fill('ok'), ...Array(8).fill('no-space')]);
  });

  it('counts and fails only the kinds it is told', () => {
    const { reasons, faults } = run({ at: 2, persistent: false, effect: 'no-space', kinds: ['write'] });
    expect(reasons.indexOf('no-space')).to.equal(3);
    expect(faults.fired).to.equal(1);
  });

  it('does nothing where it fails', () => {
    const { memory } = run({ at: 1, persistent: true, effect: 'io' });
    expect(memory.bytes().equals(Buffer.alloc(4096, 1))).to.equal(true);
  });

  it('stores the first half of a short write, and says no-space', () => {
    const memory = new MemoryStorage();
    const storage = new Faults({ at: 1, persistent: false, effect: 'short' }).inject(memory);
    expect(() => storage.write(Buffer.from('abcdef'), 0))
      .to.throw(ImgfsError)
      .with.property('reason', 'no-space');
    expect(memory.bytes().toString()).to.equal('abc');
  });

  it('ends a short read in its middle', () => {
    const storage = new Faults({ at: 1, persistent: false, effect: 'short' }).inject(
      MemoryStorage.from(Buffer.from('abcdef')),
    );
    const into = Buffer.alloc(6, 0x2e);
    expect(storage.read(into, 0)).to.equal(3);
    expect(into.toString()).to.equal('abc...');
    expect(storage.read(into, 0)).to.equal(6);
  });

  it('fails for ever after one failed flush, as a file does', () => {
    const storage = new Faults({ at: 1, persistent: false, effect: 'io', kinds: ['flush'] }).inject(
      new MemoryStorage(),
    );
    storage.write(Buffer.from('x'), 0);
    expect(() => storage.flush()).to.throw('injected');
    for (const change of [
      () => storage.flush(),
      () => storage.write(Buffer.from('x'), 0),
      () => storage.resize(0),
      () => storage.discard(0, 1),
    ]) {
      expect(change).to.throw('injected');
    }
    expect(storage.read(Buffer.alloc(1), 0)).to.equal(1);
  });

  it('counts over all its storages', () => {
    const faults = new Faults({ at: 2, persistent: false, effect: 'io' });
    const [a, b] = [faults.inject(new MemoryStorage()), faults.inject(new MemoryStorage())];
    a.write(Buffer.from('x'), 0);
    expect(() => b.write(Buffer.from('x'), 0)).to.throw('injected');
  });

  it('can be suspended, and lifted for good', () => {
    const faults = new Faults({ at: 2, persistent: true, effect: 'no-space' });
    const storage = faults.inject(new MemoryStorage());
    storage.write(Buffer.from('a'), 0);
    faults.suspended(() => storage.write(Buffer.from('b'), 0));
    expect(faults.counts.write).to.equal(1);
    expect(() => storage.write(Buffer.from('c'), 0)).to.throw(ImgfsError, 'injected');
    expect(faults.failed).to.include({ write: 1, read: 0 });
    faults.lift();
    storage.write(Buffer.from('d'), 0);
    expect(faults.fired).to.equal(1);
  });

  it('can fail only what needs new space', () => {
    const storage = new Faults({ at: 1, persistent: true, effect: 'no-space', growing: true }).inject(
      MemoryStorage.from(Buffer.alloc(4096, 1)),
    );
    storage.write(Buffer.alloc(4096, 2), 0);
    storage.resize(20_000);
    for (const at of [4000, 8192, 20_000]) {
      expect(() => storage.write(Buffer.alloc(512), at)).to.throw(ImgfsError, 'injected');
    }
  });
});
