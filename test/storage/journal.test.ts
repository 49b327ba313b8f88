import { expect } from 'chai';
import { Faults } from '../../src/storage/faults.js';
import { Journal, type JournalEntry, replay, tear } from '../../src/storage/journal.js';
import { MemoryStorage } from '../../src/storage/memory.js';
import { Random } from '../support/seed.js';

function recordSome(): { journal: Journal; before: MemoryStorage[]; states: Buffer[][]; after: MemoryStorage[] } {
  const random = new Random(3);
  const before = [MemoryStorage.from(random.bytes(20_000)), MemoryStorage.from(random.bytes(9000))];
  const after = before.map((storage) => storage.copy());
  const journal = new Journal();
  const recorded = after.map((storage) => journal.record(storage));
  const states = [after.map((storage) => storage.bytes())];
  for (let trial = 0; trial < 60; trial++) {
    const storage = random.pick(recorded);
    const at = random.below(25_000);
    const kind = random.below(8);
    if (kind === 0) storage.flush();
    else if (kind === 1) storage.resize(5000 + random.below(20_000));
    else if (kind === 2) storage.discard(at, random.below(9000));
    else storage.write(random.bytes(random.below(3000) + 1), at);
    states.push(after.map((each) => each.bytes()));
  }
  return { journal, before, states, after };
}

describe('journal storage', () => {
  it('replays every prefix to exactly the state there was', () => {
    const { journal, before, states } = recordSome();
    expect(journal.entries.length).to.equal(states.length - 1);
    for (const [n, state] of states.entries()) {
      const files = before.map((storage) => storage.copy());
      replay(journal.entries.slice(0, n), files);
      for (const [k, file] of files.entries()) expect(file.bytes().equals(state[k]!), `prefix ${n}`).to.equal(true);
    }
  });

  it('keeps the bytes as they were when they were written', () => {
    const journal = new Journal();
    const buffer = Buffer.from('first');
    journal.record(new MemoryStorage()).write(buffer, 0);
    buffer.write('later');
    const file = new MemoryStorage();
    replay(journal.entries, [file]);
    expect(file.bytes().toString()).to.equal('first');
  });

  it('does not record what failed', () => {
    const journal = new Journal();
    const faulty = new Faults({ at: 1, persistent: true, effect: 'io' }).inject(new MemoryStorage());
    const storage = journal.record(faulty);
    for (const change of [() => storage.write(Buffer.from('x'), 0), () => storage.resize(5), () => storage.flush()]) {
      expect(change).to.throw('injected');
    }
    expect(journal.entries).to.deep.equal([]);
  });

  it('tells files apart and refuses one it does not know', () => {
    const journal = new Journal();
    journal.record(new MemoryStorage('a')).write(Buffer.from('a'), 0);
    journal.record(new MemoryStorage('b')).flush();
    expect(journal.entries.map(({ kind, file }) => [kind, file])).to.deep.equal([
      ['write', 0],
      ['flush', 1],
    ]);
    expect(() => replay(journal.entries, [])).to.throw(RangeError);
  });

  it('tears a write at sectors of the file, and the parts make the whole', () => {
    const entry: JournalEntry & { kind: 'write' } = {
      kind: 'write',
      file: 0,
      at: 500,
      bytes: new Random(4).bytes(1100),
    };
    const parts = tear(entry);
    expect(parts.map((part) => (part.kind === 'write' ? [part.at, part.bytes.length] : []))).to.deep.equal([
      [500, 12],
      [512, 512],
      [1024, 512],
      [1536, 64],
    ]);
    const [whole, torn] = [new MemoryStorage(), new MemoryStorage()];
    replay([entry], [whole]);
    replay([...parts].reverse(), [torn]);
    expect(torn.bytes().equals(whole.bytes())).to.equal(true);
  });
});
