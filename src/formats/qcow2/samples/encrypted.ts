import type { OpenContext } from '../../../image/format.js';
import { DEFAULT_LIMITS } from '../../../image/limits.js';
import { pattern } from '../../../image/sample-bytes.js';
import { sampleLuks } from '../../../image/sample-luks.js';
import { SAMPLE_PASSPHRASE, type WritableSample } from '../../../image/samples.js';
import { MemoryStorage } from '../../../storage/memory.js';
import { openImage } from '../image.js';
import { SampleImage, type SampleOptions } from './image.js';

type Options = Omit<SampleOptions, 'size'>;

const AES: Options = { cryptMethod: 1 };

/** Encrypted images for workloads: QEMU's check of them would need the passphrase, so it is not asked. */
export function encryptedSamples(): readonly WritableSample[] {
  return [
    sample('AES, 4 KiB clusters', { ...AES, clusterBits: 12 }),
    sample('AES, 512-byte clusters', { ...AES, clusterBits: 9 }),
    sample('AES, subclusters', { ...AES, clusterBits: 14, extended: true }),
    { ...sample('LUKS, 4 KiB clusters', { ...luks('xts-plain64', 64), clusterBits: 12 }), oneIn: 2 },
    { ...sample('LUKS, 512-byte clusters', { ...luks('cbc-essiv:sha256', 32), clusterBits: 9 }), oneIn: 2 },
  ];
}

/** With a header of 8 KiB in place of QEMU's of 2 MiB: crash states are copied by the thousand. */
function luks(mode: string, keyBytes: number): Options {
  return { cryptMethod: 2, luksHead: sampleLuks({ mode, keyBytes, hash: 'sha256' }).head };
}

function sample(name: string, options: Options): WritableSample {
  const unit = 2 ** (options.clusterBits ?? 16);
  return {
    name,
    unit,
    files: (units) => [{ name: 'image', role: 'image', bytes: () => image(options, unit, units) }],
    snapshots: true,
    resize: 'both',
    qemu: 'nothing',
    wholeSectors: true,
  };
}

/** What an empty image becomes when its own driver writes to it: data, zeros in place of data, and holes. */
function image(options: Options, unit: number, units: number): Uint8Array {
  const recipe = new SampleImage({ ...options, size: unit * units });
  const storage = MemoryStorage.from(recipe.build(), 'image');
  const none = (): never => {
    throw new Error('an encrypted sample names nothing');
  };
  const context: OpenContext = {
    writable: true,
    limits: DEFAULT_LIMITS,
    openStorage: none,
    openImage: none,
    key: (find) => ({ bytes: find(Buffer.from(SAMPLE_PASSPHRASE)) ?? none(), release: () => {} }),
  };
  const opened = openImage(storage, context);
  opened.write(pattern(unit * 6, 5), unit);
  opened.zero(unit * 3, unit, { unmap: false });
  opened.close();
  return storage.bytes();
}
