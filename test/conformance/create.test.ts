/** What every format owes that images can be made of: empty, right in size, whole, and the same again. */

import { expect } from 'chai';
import { formats } from '../../src/formats/index.js';
import { OptionValues } from '../../src/image/creation.js';
import type { ImageFormat } from '../../src/image/format.js';
import { drained } from '../../src/lib/steps.js';
import { Faults } from '../../src/storage/faults.js';
import { Journal } from '../../src/storage/journal.js';
import { MemoryStorage } from '../../src/storage/memory.js';
import { madeContext, makeImage, memoryContext, type Wishes } from '../support/creation.js';
import { readAll } from '../support/images.js';
import { outcome } from '../support/outcome.js';
import { SEED } from '../support/seed.js';

const MIB = 1024 * 1024;

for (const format of formats.filter((candidate) => candidate.kind === 'image')) {
  const { creation } = format;
  if (creation === undefined) continue;
  describe(`conformance: a new ${format.name}`, () => {
    for (const wishes of variants(format)) {
      it(`is empty, of its size, and opens: ${JSON.stringify(wishes)}`, () => empty(format, wishes));
    }

    it('is the same for the same wishes, time and random bytes', () => {
      const [one, two] = [makeImage(format, { seed: SEED }), makeImage(format, { seed: SEED })];
      expect(one.storage.fingerprint()).to.equal(two.storage.fingerprint());
    });

    it('is durable when it is there, every file of it', () => {
      for (const { values } of variants(format)) {
        const journal = new Journal();
        const context = memoryContext('disk', new Map());
        const wishes = { size: MIB, values: new OptionValues(new Map(Object.entries(values ?? {}))) };
        creation.create(journal.record(new MemoryStorage('disk')), wishes, {
          ...context,
          makeStorage: (name) => journal.record(context.makeStorage(name)),
        });
        // Space that nothing refers to may be given back as late as one likes.
        const changes = journal.entries.filter(({ kind }) => kind !== 'discard');
        const last = new Map(changes.map(({ file, kind }) => [file, kind]));
        expect(new Set(last.values()), JSON.stringify(values)).to.deep.equal(new Set(['flush']));
      }
    });

    it('fails with one reason wherever the host fails', () => {
      for (let k = 1; ; k++) {
        const faults = new Faults({ at: k, persistent: true, effect: 'no-space' });
        const context = memoryContext('disk', new Map());
        const made = outcome(() =>
          creation.create(
            faults.inject(new MemoryStorage('disk')),
            { size: MIB, values: new OptionValues() },
            { ...context, makeStorage: (name) => faults.inject(context.makeStorage(name)) },
          ),
        );
        expect(made, `at ${k}`).to.equal(faults.fired === 0 ? 'done' : 'no-space');
        if (faults.fired === 0) return;
      }
    });
  });
}

/** Nothing said; then each flag on and each choice, one at a time, where they do not contradict what else counts. */
function variants(format: ImageFormat): readonly Wishes[] {
  const each = (format.creation?.options ?? []).flatMap(({ name, kind, choices = [] }) => {
    const values = kind === 'flag' ? [true, false] : choices;
    return values.map((value) => ({ values: { [name]: value } }));
  });
  return [{}, { size: 0 }, { size: 512 }, { size: 5 * MIB + 1024 }, ...each].filter(
    (wishes) => outcome(() => makeImage(format, wishes)) !== 'usage',
  );
}

function empty(format: ImageFormat, wishes: Wishes): void {
  const made = makeImage(format, wishes);
  const image = format.open(made.storage.copy(), madeContext(made));
  expect(image.size).to.equal(wishes.size ?? MIB);
  // What nobody has written to is decrypted all the same.
  const bytes = readAll(image);
  if (!image.info.encrypted) expect(bytes.every((byte) => byte === 0)).to.equal(true);
  expect(image.info.dirty).to.equal(false);
  image.close();
  const findings: string[] = [];
  const options = { repair: 'none', tell: (finding: string) => findings.push(finding) } as const;
  if (format.check !== undefined) drained(format.check(made.storage.copy(), madeContext(made), options));
  expect(findings).to.deep.equal([]);
}
