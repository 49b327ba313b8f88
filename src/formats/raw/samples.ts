import type { FormatSamples, GoodSample } from '../../image/samples.js';

export const samples: FormatSamples = {
  good: () => [1, 511, 512, 65_536, 100_001].map(sample),
  broken: () => [],
  specimens: () => [],
  wholeAtAnyLength: 'any bytes are a raw disk',
};

function sample(size: number): GoodSample {
  const disk = new Uint8Array(size);
  let state = size;
  for (let n = 0; n < size; n++) {
    state = (state * 1_103_515_245 + 12_345) % 2 ** 31;
    disk[n] = state / 2 ** 16;
  }
  return { name: `${size} bytes`, image: disk, disk, snapshots: [] };
}
