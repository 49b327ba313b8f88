import { qcowAesKey } from '../../../image/encrypted.js';
import type { OpenContext } from '../../../image/format.js';
import { DEFAULT_LIMITS } from '../../../image/limits.js';
import { pattern } from '../../../image/sample-bytes.js';
import { SAMPLE_PASSPHRASE, type WritableSample } from '../../../image/samples.js';
import { MemoryStorage } from '../../../storage/memory.js';
import { openImage } from '../image.js';
import { SampleImage, type SampleOptions } from './image.js';

/** Encrypted images for workloads: QEMU's check of them would need the passphrase, so it is not asked. */
export function encryptedSamples(): readonly WritableSample[] {
  return [
    sample('AES, 4 KiB clusters', { clusterBits: 12 }),
    sample('AES, 512-byte clusters', { clusterBits: 9 }),
    sample('AES, subclusters', { clusterBits: 14, extended: true }),
  ];
}

function sample(name: string, options: Omit<SampleOptions, 'size'>): WritableSample {
  const unit = 2 ** (options.clusterBits ?? 16);
  return {
    name,
    unit,
    files: (units) => [{ name: 'image', role: 'image', bytes: () => image(options, unit, units) }],
    snapshots: true,
    // Never resized: half of such trials set space aside, which an encrypted image refuses.
    qemu: 'nothing',
    wholeSectors: true,
  };
}

/** What an empty image becomes when its own driver writes to it: data, zeros in place of data, and holes. */
function image(options: Omit<SampleOptions, 'size'>, unit: number, units: number): Uint8Array {
  const recipe = new SampleImage({ ...options, cryptMethod: 1, size: unit * units });
  const storage = MemoryStorage.from(recipe.build(), 'image');
  const none = (): never => {
    throw new Error('an encrypted sample names nothing');
  };
  const context: OpenContext = {
    writable: true,
    limits: DEFAULT_LIMITS,
    openStorage: none,
    openImage: none,
    key: () => ({ bytes: qcowAesKey(Buffer.from(SAMPLE_PASSPHRASE)), release: () => {} }),
  };
  const opened = openImage(storage, context);
  opened.write(pattern(unit * 6, 5), unit);
  opened.zero(unit * 3, unit, { unmap: false });
  opened.close();
  return storage.bytes();
}
