import { expect } from 'chai';
import { amending } from '../../../src/formats/qcow2/amend/amend.js';
import { readHeader } from '../../../src/formats/qcow2/header.js';
import { SampleImage, type SampleOptions } from '../../../src/formats/qcow2/samples/image.js';
import { type OptionValue, OptionValues } from '../../../src/image/creation.js';
import { DEFAULT_LIMITS } from '../../../src/image/limits.js';
import type { Storage } from '../../../src/storage/storage.js';
import { closedContext } from '../../support/images.js';
import { afterFaults, afterPowerCuts, type StructureChange } from './structure-change.js';

const KIB = 1024;
const WRITABLE = { ...closedContext(), writable: true };

function image(options: Partial<SampleOptions> = {}): Uint8Array {
  const made = new SampleImage({ size: 160 * KIB, clusterBits: 9, ...options });
  const unit = made.clusterSize;
  made.write(0, Buffer.alloc(8 * unit, 1)).write(64 * KIB, Buffer.alloc(4 * unit, 2));
  if (options.version !== 2) made.zero(8 * unit, 2 * unit, true).zero(20 * unit, unit);
  made.snapshot('old').write(2 * unit, Buffer.alloc(unit, 3));
  if (options.version !== 2) made.zero(30 * unit, unit, true);
  return made.build();
}

function amended(start: Uint8Array, values: Readonly<Record<string, OptionValue>>): StructureChange {
  return {
    start,
    change(storage: Storage) {
      const options = new OptionValues(new Map(Object.entries(values)));
      amending.amend(storage, WRITABLE, { options, backing: undefined });
    },
    shows(storage: Storage) {
      const { version, refcountBits, lazyRefcounts, backing } = readHeader(storage, DEFAULT_LIMITS);
      return { version, refcountBits, lazyRefcounts, backing };
    },
  };
}

const backing = { name: 'below.raw', format: 'raw' };

const CHANGES: Readonly<Record<string, StructureChange>> = {
  'version 2 to 3': amended(image({ version: 2 }), { compat: '1.1' }),
  'version 2 to 3, below a name': amended(image({ version: 2, backing }), { compat: '1.1' }),
  'version 3 to 2, with zeros': amended(image(), { compat: '0.10' }),
  'version 3 to 2, with zeros above another image': amended(image({ backing }), { compat: '0.10' }),
  'wider refcounts': amended(image({ refcountBits: 4 }), { refcount_bits: 64 }),
  'narrower refcounts': amended(image({ clusterBits: 12 }), { refcount_bits: 2 }),
  'a feature': amended(image(), { lazy_refcounts: true }),
};

describe('qcow2: amending', () => {
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
      expect(count).to.be.at.least(15);
    });
  }
});
