import { expect } from 'chai';
import { bitmaps } from '../../../src/formats/qcow2/bitmaps/change.js';
import { SampleImage, type SampleOptions } from '../../../src/formats/qcow2/samples/image.js';
import type { BitmapAction, BitmapBits, GuestRange } from '../../../src/image/bitmaps.js';
import { DEFAULT_LIMITS } from '../../../src/image/limits.js';
import { ImgfsError } from '../../../src/lib/errors.js';
import { MemoryStorage } from '../../../src/storage/memory.js';
import type { Storage } from '../../../src/storage/storage.js';
import { closedContext } from '../../support/images.js';
import { Random, SEED } from '../../support/seed.js';
import { afterFaults, afterPowerCuts, type StructureChange } from './structure-change.js';

const KIB = 1024;
const SIZE = 160 * KIB;
const WRITABLE = { ...closedContext(), writable: true };

function image(options: Partial<SampleOptions> = {}): Uint8Array {
  const made = new SampleImage({ size: SIZE, clusterBits: 9, ...options });
  return made
    .write(0, Buffer.alloc(4 * KIB, 1))
    .write(64 * KIB, Buffer.alloc(20 * KIB, 2))
    .snapshot('s')
    .build();
}

function change(storage: Storage, name: string, ...actions: readonly BitmapAction[]): void {
  bitmaps.change(storage, WRITABLE, name, actions);
}

/** A bitmap of some other image. */
function saying(...ranges: readonly GuestRange[]): BitmapBits {
  return { name: 'other', size: SIZE, ranges: () => ranges };
}

function ranges(storage: Storage, name: string): readonly GuestRange[] {
  return [...bitmaps.bits(storage, DEFAULT_LIMITS, name).ranges()];
}

function shows(storage: Storage): unknown {
  const all = bitmaps.list(storage, DEFAULT_LIMITS).filter(({ inUse }) => !inUse);
  return all.map(({ name, granularity, auto }) => ({ name, granularity, auto, ranges: ranges(storage, name) }));
}

/** Two bitmaps that say something. */
function started(options: Partial<SampleOptions> = {}): Uint8Array {
  const storage = MemoryStorage.from(image(options));
  change(
    storage,
    'one',
    { kind: 'add', granularity: 512 },
    { kind: 'merge', source: saying({ at: 5000, length: 9000 }) },
  );
  change(storage, 'two', { kind: 'add', granularity: 4096 }, { kind: 'disable' }, { kind: 'merge', source: 'one' });
  return storage.bytes();
}

const CHANGES: Readonly<Record<string, StructureChange>> = {
  'the first bitmap': { start: image(), change: (storage) => change(storage, 'new', { kind: 'add' }), shows },
  'the first bitmap, below a long name': {
    start: image({ backing: { name: 'b'.repeat(250), format: 'raw' } }),
    change: (storage) => change(storage, 'new', { kind: 'add' }),
    shows,
  },
  'the first bitmap, beside a longer name': {
    start: image({ clusterBits: 12, backing: { name: 'b'.repeat(400), format: 'raw' } }),
    change: (storage) => change(storage, 'new', { kind: 'add' }),
    shows,
  },
  'bits merged': {
    start: started(),
    change: (storage) => change(storage, 'two', { kind: 'merge', source: saying({ at: 100_000, length: 30_000 }) }),
    shows,
  },
  'cleared, merged and enabled at once': {
    start: started({ clusterBits: 12 }),
    change: (storage) =>
      change(storage, 'two', { kind: 'clear' }, { kind: 'merge', source: 'one' }, { kind: 'enable' }),
    shows,
  },
  'one of two removed': { start: started(), change: (storage) => change(storage, 'one', { kind: 'remove' }), shows },
  'the last one removed': {
    start: (() => {
      const storage = MemoryStorage.from(started());
      change(storage, 'one', { kind: 'remove' });
      return storage.bytes();
    })(),
    change: (storage) => change(storage, 'two', { kind: 'remove' }),
    shows,
  },
};

describe('qcow2: bitmaps', () => {
  it('merge what a model merges, whatever the granularities', () => {
    const random = new Random(SEED);
    for (let round = 0; round < 30; round++) {
      const storage = MemoryStorage.from(image({ clusterBits: 9 + (round % 3) }));
      const granularity = 512 * 2 ** (round % 5);
      const coarse = 512 * 2 ** ((round * 7) % 6);
      const given = Array.from({ length: 1 + (round % 6) }, () => {
        const at = Math.floor(random.next() * (SIZE - 1));
        return { at, length: 1 + Math.floor(random.next() * Math.min(40_000, SIZE - at - 1)) };
      });
      change(storage, 'a', { kind: 'add', granularity }, { kind: 'merge', source: saying(...given) });
      change(storage, 'b', { kind: 'add', granularity: coarse }, { kind: 'merge', source: 'a' });
      const fine = modelled(given, granularity);
      expect(ranges(storage, 'a')).to.deep.equal(fine);
      expect(ranges(storage, 'b')).to.deep.equal(modelled(fine, coarse));
    }
  });

  for (const [what, subject] of Object.entries(CHANGES)) {
    it(`${what}: old or new at every power cut, and damage is seen where barriers hold back nothing`, () => {
      const { count, bad } = afterPowerCuts(subject, true);
      expect(bad.slice(0, 3)).to.deep.equal([]);
      expect(count).to.be.at.least(8);
      expect(afterPowerCuts(subject, false).bad.length).to.be.at.least(3);
    });

    it(`${what}: old or new whatever call of the host fails`, () => {
      const { count, bad } = afterFaults(subject);
      expect(bad.slice(0, 3)).to.deep.equal([]);
      expect(count).to.be.at.least(20);
    });
  }

  it('have limits: a name, a size, a number', () => {
    const storage = MemoryStorage.from(image());
    const refused = (name: string, action: BitmapAction, reason: string): void => {
      expect(() => change(storage, name, action))
        .to.throw(ImgfsError)
        .with.property('reason', reason);
    };
    change(storage, 'x'.repeat(1023), { kind: 'add' });
    refused('x'.repeat(1024), { kind: 'add' }, 'limit');
    refused('', { kind: 'add' }, 'usage');
    refused('y', { kind: 'add', granularity: 256 }, 'usage');
    refused('y', { kind: 'add', granularity: 2 ** 32 }, 'usage');
    change(storage, 'y', { kind: 'add', granularity: 2 ** 31 });
    const huge = MemoryStorage.from(new SampleImage({ size: 2 ** 42, clusterBits: 21 }).build());
    change(huge, 'fits', { kind: 'add', granularity: 1024 });
    expect(() => change(huge, 'more', { kind: 'add', granularity: 512 })).to.throw(ImgfsError, '"more" would need');
  });

  it('a table that does not fit the disk is damage, and can be removed', () => {
    const bitmap = { name: 'b', granularity: 512, inUse: false, auto: true };
    const storage = MemoryStorage.from(image({ bitmaps: [bitmap] }));
    const [entry] = bitmaps.list(storage, DEFAULT_LIMITS) as unknown as readonly { readonly stored: Buffer }[];
    const at = storage.bytes().indexOf(entry?.stored ?? '');
    storage.write(Uint8Array.of(0, 0, 0, 0), at + 8);
    expect(() => ranges(storage, 'b'))
      .to.throw(ImgfsError)
      .with.property('reason', 'corrupt');
    expect(() => change(storage, 'b', { kind: 'clear' }))
      .to.throw(ImgfsError)
      .with.property('reason', 'corrupt');
    change(storage, 'b', { kind: 'remove' });
    expect(bitmaps.list(storage, DEFAULT_LIMITS)).to.deep.equal([]);
  });
});

/** Ranges rounded outwards, joined. */
function modelled(given: readonly GuestRange[], granularity: number): readonly GuestRange[] {
  const bits = new Set<number>();
  for (const { at, length } of given) {
    for (let bit = Math.floor(at / granularity); bit * granularity < at + length; bit++) bits.add(bit);
  }
  const found: { at: number; length: number }[] = [];
  for (const bit of [...bits].sort((a, b) => a - b)) {
    const at = bit * granularity;
    const length = Math.min(SIZE, at + granularity) - at;
    const last = found.at(-1);
    if (last !== undefined && last.at + last.length === at) last.length += length;
    else found.push({ at, length });
  }
  return found;
}
