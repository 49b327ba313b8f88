/** The writer of formats cut in units, with a toy format in memory: what reaches the file, when, and what guests see. */
import { expect } from 'chai';
import type { ImageFormat, OpenContext } from '../../src/image/format.js';
import type { Image } from '../../src/image/image.js';
import { DEFAULT_LIMITS } from '../../src/image/limits.js';
import { PENDING_MAX } from '../../src/image/pending-units.js';
import { Sharing } from '../../src/image/sharing.js';
import { type Fault, Faults } from '../../src/storage/faults.js';
import { Journal, type JournalEntry } from '../../src/storage/journal.js';
import { MemoryStorage } from '../../src/storage/memory.js';
import type { Storage } from '../../src/storage/storage.js';
import type { Operation } from '../crash/operations.js';
import { imageFormat } from '../crash/rig.js';
import { runWorkload, type Tally } from '../crash/runner.js';
import { closedContext, readAll } from '../support/images.js';
import { SEED } from '../support/seed.js';
import { checkToy, DATA_AT, emptyToy, sizeOf, TOY_SIZE, toyUnits, UNIT } from './toy.js';

const BASE = new Uint8Array(TOY_SIZE - 10_000).fill(7);

function open(storage: Storage, options: { sharing?: Sharing; base?: boolean; writable?: boolean } = {}): Image {
  const { sharing, base = false, writable = true } = options;
  const context: OpenContext = {
    ...closedContext(),
    writable,
    sharing,
    openImage: () => rawOf(BASE),
  };
  return toyUnits(base ? 'base' : undefined).open(storage, context);
}

function rawOf(content: Uint8Array): Image {
  return imageFormat('raw').open(MemoryStorage.from(content), closedContext());
}

/** What an image over a base does, as short words: D data, T table, F flush, P punch, R the length. */
function traced(base: boolean, action: (image: Image) => void): string {
  const journal = new Journal();
  action(open(journal.record(MemoryStorage.from(emptyToy())), { base }));
  const letter = (entry: JournalEntry): string => {
    if (entry.kind === 'write') return entry.at < DATA_AT ? 'T' : 'D';
    return entry.kind === 'flush' ? 'F' : entry.kind === 'discard' ? 'P' : 'R';
  };
  return journal.entries.map(letter).join('');
}

const bytes = (length: number, value: number): Uint8Array => new Uint8Array(length).fill(value);

describe('units: order of writes', () => {
  it('zeros before, fresh space: data, then both copies of the entry, no barrier', () => {
    expect(traced(false, (image) => image.write(bytes(100, 1), 300))).to.equal('RFDTT');
  });

  it('something below: data now, the entry after one barrier', () => {
    expect(traced(true, (image) => image.write(bytes(100, 1), 300))).to.equal('RFD');
    const twice = (image: Image): void => {
      image.write(bytes(100, 1), 300);
      image.write(bytes(UNIT, 2), 9 * UNIT);
      image.flush();
    };
    expect(traced(true, twice)).to.equal('RFDDFTTTTF');
  });

  it('a flush with nothing pending is one barrier', () => {
    expect(traced(true, (image) => image.flush())).to.equal('F');
  });

  it('neighbours in the guest and on the host wait as one run, and are entered together', () => {
    const action = (image: Image): void => {
      for (let n = 0; n < 4; n++) image.write(bytes(UNIT, n), n * UNIT);
      image.publish();
    };
    expect(traced(true, action)).to.equal('RFDDDDFTT');
  });

  it('a large write is one data write', () => {
    expect(traced(false, (image) => image.write(bytes(50 * UNIT, 1), 3 * UNIT))).to.equal('RFDTT');
  });

  it('a unit that has its place is overwritten there', () => {
    const action = (image: Image): void => {
      image.write(bytes(100, 1), 300);
      image.write(bytes(50, 2), 310);
    };
    expect(traced(true, action)).to.equal('RFDD');
  });
});

describe('units: zeros', () => {
  it('what has a place is punched there, or written where space is kept', () => {
    const action = (unmap: boolean) => (image: Image) => {
      image.write(bytes(2 * UNIT, 1), 0);
      image.zero(0, 2 * UNIT, { unmap });
    };
    expect(traced(false, action(true))).to.equal('RFDTTPP');
    expect(traced(false, action(false))).to.equal('RFDTTDD');
  });

  it('absent units with nothing below need nothing', () => {
    expect(traced(false, (image) => image.zero(0, TOY_SIZE, { unmap: true }))).to.equal('');
  });

  it('absent units with something below get an entry that says so, as far as it reaches', () => {
    const storage = MemoryStorage.from(emptyToy());
    const image = open(storage, { base: true });
    image.zero(500, TOY_SIZE - 500, { unmap: false });
    const expected = Buffer.alloc(TOY_SIZE);
    expected.set(BASE.subarray(0, 500));
    expect(readAll(image).equals(expected)).to.equal(true);
    expect(storage.size(), 'only the cut unit was written').to.be.at.most(DATA_AT + 4 * UNIT);
  });

  it('the unit cut by the end of the disk counts as a whole one', () => {
    const action = (image: Image): void => {
      image.write(bytes(512, 1), TOY_SIZE - 512);
      image.zero(TOY_SIZE - 512, 512, { unmap: true });
    };
    expect(traced(false, action)).to.equal('RFDTTP');
  });
});

describe('units: what is pending', () => {
  it('is seen at once, by every thread, and published by any', () => {
    const storage = MemoryStorage.from(emptyToy());
    const sharing = new Sharing();
    const [one, other] = [open(storage, { sharing, base: true }), open(storage, { sharing, base: true })];
    readAll(other);
    one.write(bytes(300, 1), 5 * UNIT + 100);
    expect(readAll(other).equals(readAll(one))).to.equal(true);
    expect(readAll(one).subarray(5 * UNIT + 90, 5 * UNIT + 102)).to.deep.equal(
      Buffer.from([...Array(10).fill(7), 1, 1]),
    );
    other.flush();
    const later = open(storage, { base: true, writable: false });
    expect(readAll(later).equals(readAll(one))).to.equal(true);
    other.write(bytes(300, 2), 5 * UNIT + 100);
    expect(readAll(one).equals(readAll(other))).to.equal(true);
  });

  it('is bounded', () => {
    const journal = new Journal();
    const context = { ...closedContext(), writable: true, openImage: () => rawOf(new Uint8Array(sizeOf(600)).fill(7)) };
    const image = toyUnits('base', 600).open(journal.record(MemoryStorage.from(emptyToy())), context);
    const writes = (): number => journal.entries.filter((entry) => entry.kind === 'write' && entry.at < DATA_AT).length;
    // Backwards no run continues another.
    for (let n = 0; n < PENDING_MAX; n++) image.write(bytes(10, 1), (599 - n) * UNIT);
    expect(writes()).to.equal(0);
    image.write(bytes(10, 1), 0);
    expect(writes()).to.equal(2 * PENDING_MAX);
  });

  it('what a failed table write left behind is put right, and entered with the next group', () => {
    const fault: Fault = { kinds: ['write'], at: 3, persistent: false, effect: 'short' };
    const storage = MemoryStorage.from(emptyToy());
    const image = open(new Faults(fault).inject(storage));
    expect(() => image.write(bytes(UNIT, 1), 0)).to.throw('injected');
    image.write(bytes(UNIT, 2), 3 * UNIT);
    image.close();
    const expected = Buffer.alloc(TOY_SIZE);
    expected.fill(1, 0, UNIT).fill(2, 3 * UNIT, 4 * UNIT);
    expect(readAll(open(storage)).equals(expected)).to.equal(true);
  });

  it('a write on a table ends all writing', () => {
    const storage = MemoryStorage.from(emptyToy());
    storage.write(Uint8Array.of(0, 2, 0, 0), 512);
    const image = open(storage);
    expect(() => image.write(bytes(10, 1), 0)).to.throw('on a table');
    expect(() => image.write(bytes(10, 1), 5 * UNIT)).to.throw('not written any more');
  });
});

describe('units: power cuts', () => {
  const OPERATIONS: readonly Operation[] = [
    { do: 'write', at: 0, length: 512 },
    { do: 'write', at: 10_000, length: 5000 },
    { do: 'flush' },
    { do: 'write', at: 512, length: 1536 },
    { do: 'discard', at: 11_000, length: 3000 },
    { do: 'write', at: 30_000, length: 3 },
    { do: 'publish' },
    { do: 'write', at: 30_003, length: 9000 },
    { do: 'zero', at: 60_000, length: 9000 },
    { do: 'flush' },
    { do: 'write', at: 0, length: 2048 },
    { do: 'write', at: 62_001, length: 2222 },
    { do: 'reopen' },
    { do: 'write', at: TOY_SIZE - 1000, length: 1000 },
    { do: 'discard', at: 0, length: 40_000 },
    { do: 'write', at: 20_480, length: 4096 },
  ];

  function crash(base: boolean, barriers: boolean): Tally {
    const format: ImageFormat = toyUnits(base ? 'base.raw' : undefined);
    const files = [{ name: 'disk.toy', role: 'image', bytes: emptyToy } as const];
    const below = { name: 'base.raw', role: 'base', format: 'raw', bytes: () => BASE } as const;
    const workload = {
      name: `units ${base}`,
      format,
      files: base ? [...files, below] : files,
      operations: OPERATIONS,
    };
    return runWorkload(workload, { seed: SEED, barriers, qemuEvery: 0, check: checkToy });
  }

  for (const base of [false, true]) {
    it(`nothing flushed is lost, nothing strange is seen${base ? ', with something below' : ''}`, () => {
      const tally = crash(base, true);
      expect(tally.failures).to.deep.equal([]);
      expect(tally.states).to.be.greaterThan(100);
    });
  }

  it('without barriers at least a fifth of the states is bad', () => {
    const { bad, states } = crash(true, false);
    expect(bad / states).to.be.greaterThan(0.2);
  });
});

describe('units: limits', () => {
  it('few pieces of tables are kept', () => {
    const storage = MemoryStorage.from(emptyToy());
    const context = { ...closedContext(), limits: { ...DEFAULT_LIMITS, cacheBytes: 1 }, writable: true };
    const image = toyUnits().open(storage, context);
    image.write(bytes(TOY_SIZE, 3), 0);
    expect(readAll(image).every((byte) => byte === 3)).to.equal(true);
  });
});
