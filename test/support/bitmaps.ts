import { formats } from '../../src/formats/index.js';
import type { GuestRange } from '../../src/image/bitmaps.js';
import { withStructure } from '../../src/image/structure.js';

/** What a bitmap of a qcow2 image says, as imgfs reads it. */
export function dirtyRanges(path: string, name: string): readonly GuestRange[] {
  const options = { formats, format: 'qcow2', writable: false, warn: () => {} };
  return withStructure(path, options, ({ format, storage, context }) => [
    ...(format.bitmaps?.bits(storage, context.limits, name).ranges() ?? []),
  ]);
}
