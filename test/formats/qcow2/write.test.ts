import fs from 'node:fs';
import { expect } from 'chai';
import type { Image } from '../../../src/image/image.js';
import { Journal } from '../../../src/storage/journal.js';
import { MemoryStorage } from '../../../src/storage/memory.js';
import { readAll } from '../../support/images.js';
import { needsTool, qemuImg, qemuIo } from '../../support/qemu.js';
import { scratch } from '../../support/scratch.js';
import { Random } from '../../support/seed.js';
import { expectClean, expectDisk, type Named, openWritable } from '../../support/written.js';

interface Variant {
  readonly name: string;
  readonly options: string;
  readonly size: number;
  readonly dataFile?: boolean;
  /** Length of the backing image's disk. */
  readonly backing?: number;
  /** Some clusters are compressed to begin with. */
  readonly compressed?: boolean;
}

const MIB = 1024 * 1024;

const VARIANTS: readonly Variant[] = [
  { name: 'version 2', options: 'compat=0.10', size: 4 * MIB },
  { name: 'version 2, 512-byte clusters', options: 'compat=0.10,cluster_size=512', size: MIB },
  { name: 'version 2 with a backing file', options: 'compat=0.10,cluster_size=4k', size: 2 * MIB, backing: MIB + 1536 },
  { name: 'version 3', options: '', size: 4 * MIB },
  { name: '512-byte clusters', options: 'cluster_size=512', size: MIB },
  { name: '512-byte clusters, 64-bit refcounts', options: 'cluster_size=512,refcount_bits=64', size: 2 * MIB },
  { name: '4 KiB clusters, 1-bit refcounts', options: 'cluster_size=4k,refcount_bits=1', size: 4 * MIB },
  { name: '4 KiB clusters, 2-bit refcounts', options: 'cluster_size=4k,refcount_bits=2', size: 4 * MIB },
  { name: '4 KiB clusters, 8-bit refcounts', options: 'cluster_size=4k,refcount_bits=8', size: 4 * MIB },
  { name: '2 MiB clusters, 32-bit refcounts', options: 'cluster_size=2M,refcount_bits=32', size: 16 * MIB },
  { name: 'lazy refcounts', options: 'lazy_refcounts=on,cluster_size=8k', size: 4 * MIB },
  { name: 'subclusters', options: 'extended_l2=on,cluster_size=16k', size: 4 * MIB },
  {
    name: 'subclusters of a backing file',
    options: 'extended_l2=on,cluster_size=16k',
    size: 2 * MIB,
    backing: 3 * MIB,
  },
  { name: 'subclusters, 128 KiB clusters', options: 'extended_l2=on,cluster_size=128k', size: 8 * MIB },
  { name: 'a backing file', options: 'cluster_size=4k', size: 2 * MIB, backing: MIB },
  { name: 'a longer backing file', options: 'cluster_size=64k', size: 2 * MIB, backing: 4 * MIB },
  { name: 'a disk of odd length', options: 'cluster_size=4k', size: MIB + 512, backing: MIB - 512 },
  { name: 'compressed clusters', options: 'cluster_size=4k', size: 2 * MIB, compressed: true },
  {
    name: 'compressed clusters, zstd',
    options: 'cluster_size=64k,compression_type=zstd',
    size: 2 * MIB,
    compressed: true,
  },
  { name: 'compressed clusters with subclusters', options: 'extended_l2=on', size: 2 * MIB, compressed: true },
  { name: 'an external data file', options: 'cluster_size=4k', size: 2 * MIB, dataFile: true },
  { name: 'an external raw data file', options: 'cluster_size=64k,data_file_raw=on', size: 2 * MIB, dataFile: true },
  { name: 'external data, subclusters', options: 'cluster_size=16k,extended_l2=on', size: 2 * MIB, dataFile: true },
  { name: 'preallocated metadata', options: 'preallocation=metadata', size: 2 * MIB },
];

/** An image made by qemu-img, opened from memory; its file can be looked at by qemu-img again. */
class Specimen {
  readonly storage: MemoryStorage;
  readonly model: Buffer;
  private readonly data: MemoryStorage | undefined;
  private readonly base: Buffer | undefined;
  image: Image;

  constructor(
    private readonly directory: (name: string) => string,
    private readonly variant: Variant,
    private readonly random: Random,
  ) {
    const file = directory('image');
    const base = directory('base');
    const options = [
      '-o',
      [variant.options, ...(variant.dataFile ? [`data_file=${directory('data')}`] : [])]
        .filter((o) => o !== '')
        .join(','),
    ];
    const backing = variant.backing === undefined ? [] : ['-b', base, '-F', 'raw'];
    for (const old of [file, base, directory('data')]) fs.rmSync(old, { force: true });
    if (variant.backing !== undefined) {
      this.base = random.bytes(variant.backing);
      // Some of it reads as zeros.
      this.base.fill(0, 65_536 * 3, 65_536 * 5);
      fs.writeFileSync(base, this.base);
    }
    this.model = Buffer.alloc(variant.size);
    if (variant.compressed) {
      const raw = directory('raw');
      for (let at = 0; at < variant.size; at += 8192) this.model.fill(random.below(200), at, at + 4096);
      this.model.fill(0, MIB / 2, MIB);
      fs.writeFileSync(raw, this.model);
      qemuImg('convert', '-c', '-O', 'qcow2', ...options, raw, file);
    } else
      qemuImg(
        'create',
        '-q',
        '-f',
        'qcow2',
        ...(options[1] === '' ? [] : options),
        ...backing,
        file,
        String(variant.size),
      );
    this.base?.copy(this.model);
    this.storage = MemoryStorage.from(fs.readFileSync(file));
    if (variant.dataFile) this.data = MemoryStorage.from(fs.readFileSync(directory('data')));
    this.image = this.open();
  }

  reopen(): void {
    this.image.close();
    this.image = this.open();
  }

  /** Closes the image and has QEMU look at it. */
  judge(): void {
    expect(readAll(this.image).equals(this.model), 'what we read').to.equal(true);
    this.image.close();
    const file = this.directory('image');
    fs.writeFileSync(file, this.storage.bytes());
    if (this.data !== undefined) fs.writeFileSync(this.directory('data'), this.data.bytes());
    expectClean(file);
    expectDisk(file, this.model);
    if (this.variant.options.includes('data_file_raw')) {
      expect(fs.readFileSync(this.directory('data')).equals(this.model)).to.equal(true);
    }
    this.image = this.open();
    expect(readAll(this.image).equals(this.model), 'what we read again').to.equal(true);
    this.image.close();
    expect(this.storage.bytes().equals(fs.readFileSync(file)), 'reading changes nothing').to.equal(true);
    this.image = this.open();
  }

  write(at: number, length: number): void {
    const bytes = this.random.bytes(length);
    this.image.write(bytes, at);
    this.model.set(bytes, at);
  }

  zero(at: number, length: number, unmap: boolean): void {
    this.image.zero(at, length, { unmap });
    this.model.fill(0, at, at + length);
  }

  /** Something random: mostly small, sometimes over many clusters. */
  anything(): void {
    const { random, model } = this;
    const at = random.below(model.length / 512) * 512 + (random.below(4) === 0 ? random.below(512) : 0);
    const most = Math.min(model.length - at, random.below(5) === 0 ? 600_000 : 20_000);
    const length = random.below(most) + 1;
    const kind = random.below(20);
    if (kind < 12) this.write(at, length);
    else if (kind < 15) this.zero(at, length, true);
    else if (kind < 17) this.zero(at, length, false);
    else if (kind === 17) this.image.flush();
    else if (kind === 18) this.image.publish();
    else expect(this.look(at, length)).to.equal(true);
  }

  private look(at: number, length: number): boolean {
    const seen = Buffer.alloc(length);
    this.image.read(seen, at);
    return seen.equals(this.model.subarray(at, at + length));
  }

  private open(): Image {
    const named: Named = {
      ...(this.base === undefined ? {} : { images: { [this.directory('base')]: { bytes: this.base, format: 'raw' } } }),
      ...(this.data === undefined ? {} : { storages: { [this.directory('data')]: this.data } }),
    };
    return openWritable(this.storage, named);
  }
}

describe('qcow2, written', function () {
  this.timeout(60_000);
  needsTool('qemu-img', 'qemu-io');
  const files = scratch();

  for (const variant of VARIANTS) {
    describe(variant.name, () => {
      it('is not changed by being looked at', () => {
        const specimen = new Specimen((name) => files.path(name), variant, new Random());
        const before = specimen.storage.bytes();
        readAll(specimen.image);
        specimen.image.publish();
        specimen.image.close();
        expect(specimen.storage.bytes().equals(before)).to.equal(true);
      });

      it('has every byte where it was written, and nothing else changed', () => {
        const specimen = new Specimen((name) => files.path(name), variant, new Random());
        for (const [at, length] of [
          [0, 1],
          [70_001, 3],
          [65_536, 65_536],
          [300_000, 400_000],
          [variant.size - 1, 1],
        ]) {
          specimen.write(at!, length!);
        }
        specimen.judge();
      });

      it('agrees with a model and with qemu-img after anything', () => {
        const specimen = new Specimen((name) => files.path(name), variant, new Random());
        for (let round = 0; round < 3; round++) {
          for (let step = 0; step < 60; step++) specimen.anything();
          specimen.judge();
          specimen.reopen();
        }
      });
    });
  }

  it('continues what QEMU began, and QEMU what we did', () => {
    const file = files.path('both');
    qemuImg('create', '-q', '-f', 'qcow2', file, '8M');
    const model = Buffer.alloc(8 * MIB);
    for (let round = 0; round < 4; round++) {
      const at = round * 700_000;
      qemuIo(file, [`write -P ${round + 1} ${at} 300000`, `write -z ${at + 100_000} 65536`]);
      model.fill(round + 1, at, at + 300_000).fill(0, at + 100_000, at + 165_536);
      const storage = MemoryStorage.from(fs.readFileSync(file));
      const image = openWritable(storage);
      image.write(Buffer.alloc(250_000, 100 + round), at + 150_000);
      model.fill(100 + round, at + 150_000, at + 400_000);
      image.close();
      fs.writeFileSync(file, storage.bytes());
      expectClean(file);
      expectDisk(file, model);
    }
  });

  it('writes a megabyte into new space with one write of data and one of a table', () => {
    const file = files.path('journal');
    qemuImg('create', '-q', '-f', 'qcow2', file, '1G');
    const journal = new Journal();
    const image = openWritable(journal.record(MemoryStorage.from(fs.readFileSync(file))));
    image.write(Buffer.alloc(4096, 1), 0);
    const during = (at: number): unknown[] => {
      const before = journal.entries.length;
      image.write(Buffer.alloc(MIB, 2), at);
      return journal.entries.slice(before).map((entry) => (entry.kind === 'write' ? entry.bytes.length : entry.kind));
    };
    // Whatever has to be reserved first, the data goes out in one piece.
    for (const at of [8, 32, 64, 90, 97]) expect(during(at * MIB + at).slice(-2)).to.deep.equal([MIB, 512]);
    for (const at of [100, 110]) expect(during(at * MIB)).to.deep.equal([MIB, 512]);
    const flushed = (): readonly string[] => {
      const before = journal.entries.length;
      image.flush();
      return journal.entries.slice(before).map(({ kind }) => kind);
    };
    // Of what is reserved little is left: its continuation becomes durable with everything else.
    expect(flushed()).to.deep.equal(['resize', 'write', 'flush']);
    expect(flushed()).to.deep.equal(['flush']);
    const before = journal.entries.length;
    image.write(Buffer.alloc(32 * MIB, 2), 300 * MIB);
    expect(journal.entries.slice(before).map(({ kind }) => kind)).not.to.include('flush');
    image.close();
  });
});
