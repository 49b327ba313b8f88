/** The audit of a VDI must see what it is there to see. */
import { expect } from 'chai';
import { build, pattern } from '../../src/formats/vdi/samples/build.js';
import { MemoryStorage } from '../../src/storage/memory.js';
import { auditVdi } from './audit-vdi.js';

/** A sound image of which some 32-bit fields are then changed. */
function damaged(old: boolean, ...puts: readonly (readonly [at: number, value: number])[]): MemoryStorage {
  const shape = { size: 4 * 4096, blockSize: 4096, entries: [2, 'free', 0, 1] } as const;
  const bytes = build(old ? { ...shape, old: true } : shape, pattern(shape.size, 1));
  for (const [at, value] of puts) bytes.writeUInt32LE(value, at);
  return MemoryStorage.from(bytes);
}

for (const [name, old, counter, map] of [
  ['1.1', false, 388, 512],
  ['of the first version', true, 368, 420],
] as const) {
  describe(`audit: vdi ${name}`, () => {
    it('finds nothing wrong with a sound image', () =>
      expect(auditVdi(damaged(old))).to.deep.equal({ corruptions: [], leakedBytes: 0 }));

    it('sees blocks used twice, blocks that are not counted, and numbers that nothing uses', () => {
      expect(auditVdi(damaged(old, [map, 1])).corruptions).to.deep.equal(['guest blocks 0 and 3 are both in block 1']);
      expect(auditVdi(damaged(old, [counter, 2])).corruptions).to.deep.equal([
        'block 2 of guest block 0 is not counted',
      ]);
      expect(auditVdi(damaged(old, [counter, 5])).leakedBytes).to.equal(2 * 4096);
    });
  });
}

describe('audit: vdi places', () => {
  it('sees a map that reaches into the blocks', () =>
    expect(auditVdi(damaged(false, [344, 516])).corruptions[0]).to.equal('the map at 512 is not alone'));
});
