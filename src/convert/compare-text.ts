/** What a comparison found, in qemu-img's words and as JSON. */
import type { Json } from '../image/image.js';
import { roundUp } from '../lib/bits.js';
import type { Difference } from './compare.js';
import { type ComparedDisk, SECTOR } from './side.js';

export interface Compared {
  readonly first: Pick<ComparedDisk, 'size'>;
  readonly second: Pick<ComparedDisk, 'size'>;
  readonly difference: Difference | undefined;
}

/** The lines of qemu-img. Sizes that need the same number of sectors are the same size there. */
export function comparisonText({ first, second, difference }: Compared): string {
  if (difference?.kind === 'size') return 'Strict mode: Image size mismatch!\n';
  if (difference?.kind === 'status') return `Strict mode: Offset ${difference.offset} block status mismatch!\n`;
  const [size, other] = [roundUp(first.size, SECTOR), roundUp(second.size, SECTOR)];
  const pastTheShorter = difference === undefined || difference.offset >= Math.min(size, other);
  const warning = size !== other && pastTheShorter ? 'Warning: Image size mismatch!\n' : '';
  if (difference === undefined) return `${warning}Images are identical.\n`;
  return `${warning}Content mismatch at offset ${difference.offset}!\n`;
}

/** For `--json`: exact sizes in bytes, in the order of the images; `difference` only where there is one. */
export function comparisonDocument({ first, second, difference }: Compared): Json {
  const verdict = {
    schema: 'imgfs.comparison/1',
    identical: difference === undefined,
    'virtual-sizes': [first.size, second.size],
  };
  return difference === undefined ? verdict : { ...verdict, difference };
}
