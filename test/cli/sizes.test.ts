import { expect } from 'chai';
import { parseSize } from '../../src/cli/sizes.js';
import { sizeText } from '../../src/lib/size-text.js';
import { outcome } from '../support/outcome.js';

describe('sizes', () => {
  const good: readonly (readonly [string, number])[] = [
    ['0', 0],
    ['512', 512],
    ['+5', 5],
    [' 5', 5],
    ['010', 10],
    ['5b', 5],
    ['5B', 5],
    ['1k', 1024],
    ['1K', 1024],
    ['1.5k', 1536],
    ['0.5M', 512 * 1024],
    ['1.', 1],
    ['3M', 3 * 2 ** 20],
    ['10g', 10 * 2 ** 30],
    ['7T', 7 * 2 ** 40],
    ['7P', 7 * 2 ** 50],
    ['0x10', 16],
    ['0XfF', 255],
    ['9007199254740991', 2 ** 53 - 1],
  ];
  for (const [text, bytes] of good) it(`"${text}" is ${bytes}`, () => expect(parseSize(text, 'size')).to.equal(bytes));

  for (const text of [
    '',
    ' ',
    '-1',
    'k',
    '1Q',
    '1KiB',
    '1kb',
    '1e3',
    '.5M',
    '1.5',
    '0x',
    '0x1k',
    '1 2',
    '8P',
    '9E',
    '0x20000000000000',
  ]) {
    it(`"${text}" is none`, () => {
      expect(outcome(() => parseSize(text, 'size'))).to.equal('usage');
    });
  }

  it('are told to three digits, never four before the point', () => {
    const told = [0, 1, 999, 1000, 1023, 1536, 10_240, 1_024_000, 1_000_000_000, 123_456_789_504, 2 ** 60];
    expect(told.map(sizeText)).to.deep.equal([
      '0 B',
      '1 B',
      '999 B',
      '0.977 KiB',
      '0.999 KiB',
      '1.5 KiB',
      '10 KiB',
      '0.977 MiB',
      '954 MiB',
      '115 GiB',
      '1 EiB',
    ]);
  });
});
