/**
 * Recipes for qcow2 images, built purely in memory: for tests, for the fuzzer, and for trying the program where no
 * qemu-img is installed. Not on any path of reading an image.
 */
import { deflate } from '../../../codec/inflate.js';
import { storedZstdFrame } from '../../../codec/zstd-frame.js';
import type { NamedFile } from '../../../image/image.js';
import type { RawExtension } from '../extensions.js';
import { SUBCLUSTERS } from '../layout.js';
import { layOut } from './lay-out.js';

export interface SampleOptions {
  /** Guest disk size in bytes. */
  readonly size: number;
  readonly version?: 2 | 3;
  readonly clusterBits?: number;
  /** 1 to 64, a power of two; version 2 has 16. */
  readonly refcountBits?: number;
  /** L2 entries with 32 subclusters. */
  readonly extended?: boolean;
  readonly compression?: 'zlib' | 'zstd';
  readonly backing?: NamedFile;
  readonly dataFile?: { readonly name: string; readonly raw?: boolean };
  readonly dirty?: boolean;
  readonly corrupt?: boolean;
  readonly lazyRefcounts?: boolean;
  readonly cryptMethod?: 0 | 1 | 2;
  /** LUKS header and key slots; a cluster of zeros unless told. Whoever gives one writes the clusters by the driver. */
  readonly luksHead?: Uint8Array;
  /** Length of the header; bytes past the known fields are filled with a pattern. */
  readonly headerBytes?: number;
  /** Header extensions put before the ones the other options call for. */
  readonly extensions?: readonly RawExtension[];
  readonly bitmaps?: readonly { name: string; granularity: number; inUse: boolean; auto: boolean }[];
  /** Seed by which host clusters are put out of order; undefined keeps them in order. */
  readonly shuffle?: number;
  /** The file ends with the last byte of the last compressed cluster, inside its last sector. */
  readonly cutAfterPacked?: boolean;
}

/** What one guest cluster maps to. Objects are immutable: states that share one share its host cluster. */
export interface SampleCluster {
  readonly kind: 'data' | 'zero' | 'packed';
  /** Contents: a whole cluster, or the compressed stream; absent for a zero cluster without host space. */
  readonly bytes: Uint8Array | undefined;
  /** Subclusters allocated and reading as zeros, one flag each; only with extended entries. */
  readonly allocated: readonly boolean[];
  readonly zeros: readonly boolean[];
  /** What the guest reads, where that is not `bytes`. */
  readonly plain?: Uint8Array;
}

export interface SampleSnapshot {
  readonly id: string;
  readonly name: Uint8Array;
  readonly size: number;
  readonly clusters: ReadonlyMap<number, SampleCluster>;
  readonly vmState: Uint8Array;
  /** Bytes of extra data to store: 0, 16 or 24. */
  readonly extraBytes: number;
}

const ALL = Array.from({ length: SUBCLUSTERS }, () => true);
const NONE = Array.from({ length: SUBCLUSTERS }, () => false);

/** An image in the making. Misuse (a misaligned write) throws RangeError: recipes are code, not input. */
export class SampleImage {
  size: number;
  readonly clusterSize: number;
  readonly snapshots: SampleSnapshot[] = [];
  /** Guest cluster number to content. */
  readonly clusters = new Map<number, SampleCluster>();

  constructor(readonly options: SampleOptions) {
    this.size = options.size;
    this.clusterSize = 2 ** (options.clusterBits ?? 16);
  }

  /** Stores `bytes` at `at`: whole clusters (subclusters with extended entries); a short end is filled with zeros. */
  write(at: number, bytes: Uint8Array): this {
    const unit = this.options.extended === true ? this.clusterSize / SUBCLUSTERS : this.clusterSize;
    if (at % unit !== 0) throw new RangeError(`${at} is not aligned to ${unit}`);
    for (let done = 0; done < bytes.length; ) {
      const number = Math.floor((at + done) / this.clusterSize);
      const within = at + done - number * this.clusterSize;
      const piece = bytes.subarray(done, done + this.clusterSize - within);
      this.set(number, this.filled(this.clusters.get(number), within, piece));
      done += piece.length;
    }
    return this;
  }

  /** Makes whole clusters read as zeros; `keep` leaves host space (with old bytes in it) allocated. */
  zero(at: number, length: number, keep = false): this {
    for (const number of this.covered(at, length)) {
      const old = new Uint8Array(this.clusterSize).fill(165);
      this.set(number, { kind: 'zero', bytes: keep ? old : undefined, allocated: NONE, zeros: ALL });
    }
    return this;
  }

  /** Gives whole clusters back: they read from the backing image again. */
  discard(at: number, length: number): this {
    for (const number of this.covered(at, length)) this.clusters.delete(number);
    return this;
  }

  /** Marks subclusters of a cluster as zero, whatever they were. Only with extended entries. */
  zeroSubclusters(at: number, length: number): this {
    const unit = this.clusterSize / SUBCLUSTERS;
    for (let here = at; here < at + length; here += unit) {
      const number = Math.floor(here / this.clusterSize);
      const n = (here - number * this.clusterSize) / unit;
      const old = this.clusters.get(number) ?? { kind: 'zero', bytes: undefined, allocated: NONE, zeros: NONE };
      this.set(number, { ...old, allocated: old.allocated.with(n, false), zeros: old.zeros.with(n, true) });
    }
    return this;
  }

  /** Stores one cluster compressed; `stream` replaces what the image's own compression would make of `bytes`. */
  pack(at: number, bytes: Uint8Array, stream?: Uint8Array): this {
    const whole = new Uint8Array(this.clusterSize);
    whole.set(bytes);
    const packed = stream ?? (this.options.compression === 'zstd' ? storedZstdFrame(whole) : deflate(whole));
    if (at % this.clusterSize !== 0) throw new RangeError(`${at} is not aligned`);
    if (packed.length > this.clusterSize) throw new RangeError('the compressed cluster is larger than a cluster');
    this.set(at / this.clusterSize, { kind: 'packed', bytes: packed, allocated: NONE, zeros: NONE, plain: whole });
    return this;
  }

  /** Records the present state as a snapshot. */
  snapshot(
    name: string | Uint8Array,
    more: { readonly id?: string; readonly vmState?: Uint8Array; readonly extraBytes?: number } = {},
  ): this {
    this.snapshots.push({
      id: more.id ?? String(this.snapshots.length + 1),
      name: typeof name === 'string' ? Buffer.from(name) : name,
      size: this.size,
      clusters: new Map(this.clusters),
      vmState: more.vmState ?? new Uint8Array(),
      extraBytes: more.extraBytes ?? 24,
    });
    return this;
  }

  resize(size: number): this {
    this.size = size;
    const last = Math.ceil(size / this.clusterSize);
    for (const number of [...this.clusters.keys()]) if (number >= last) this.clusters.delete(number);
    return this;
  }

  /** The image file. */
  build(): Uint8Array {
    return layOut(this).image;
  }

  /** What the guest reads now. A recipe with a backing file shows zeros where that would show through. */
  plain(): Uint8Array {
    const disk = new Uint8Array(this.size);
    for (const [number, cluster] of this.clusters) {
      const at = number * this.clusterSize;
      const bytes = cluster.plain ?? (cluster.kind === 'data' ? this.visible(cluster) : undefined);
      if (bytes !== undefined) disk.set(bytes.subarray(0, this.size - at), at);
    }
    return disk;
  }

  /** The external data file that belongs to it. */
  buildDataFile(): Uint8Array {
    const bytes = new Uint8Array(this.size);
    for (const [number, { kind, bytes: content }] of this.clusters) {
      if (kind !== 'data' || content === undefined) continue;
      const at = number * this.clusterSize;
      bytes.set(content.subarray(0, Math.min(content.length, this.size - at)), at);
    }
    return bytes;
  }

  /** A data cluster's bytes, with those of its subclusters that are not stored taken out. */
  private visible(cluster: SampleCluster): Uint8Array {
    const bytes = Uint8Array.from(cluster.bytes ?? []);
    const unit = this.clusterSize / SUBCLUSTERS;
    cluster.allocated.forEach((stored, n) => {
      if (!stored) bytes.fill(0, n * unit, (n + 1) * unit);
    });
    return bytes;
  }

  private filled(old: SampleCluster | undefined, within: number, piece: Uint8Array): SampleCluster {
    const bytes = new Uint8Array(this.clusterSize);
    if (old?.bytes !== undefined && old.kind !== 'packed') bytes.set(old.bytes);
    bytes.set(piece, within);
    if (this.options.extended !== true) return { kind: 'data', bytes, allocated: ALL, zeros: NONE };
    const unit = this.clusterSize / SUBCLUSTERS;
    const touched = (n: number): boolean => n * unit < within + piece.length && (n + 1) * unit > within;
    const allocated = (old?.allocated ?? NONE).map((was, n) => was || touched(n));
    const zeros = (old?.zeros ?? NONE).map((was, n) => was && !touched(n));
    return { kind: 'data', bytes, allocated, zeros };
  }

  private covered(at: number, length: number): number[] {
    if (at % this.clusterSize !== 0) throw new RangeError(`${at} is not aligned`);
    const first = at / this.clusterSize;
    return Array.from({ length: Math.ceil(length / this.clusterSize) }, (_, index) => first + index);
  }

  private set(number: number, cluster: SampleCluster): void {
    this.clusters.set(number, cluster);
  }
}

/**
 * An image whose snapshots are the given disks in order and whose active layer is the last of them; clusters that did
 * not change are shared, clusters of zeros are not stored. What one needs to try snapshots on a real file system.
 */
export function fromDisks(
  disks: readonly { readonly snapshot?: string; readonly disk: Uint8Array }[],
  options: Omit<SampleOptions, 'size'> = {},
): Uint8Array {
  const image = new SampleImage({ ...options, size: 0 });
  for (const { snapshot, disk } of disks) {
    image.resize(disk.length);
    const { clusters } = image;
    for (let at = 0; at < disk.length; at += image.clusterSize) {
      const number = at / image.clusterSize;
      const piece = disk.subarray(at, at + image.clusterSize);
      const old = clusters.get(number)?.bytes;
      if (piece.every((byte) => byte === 0)) clusters.delete(number);
      else if (old === undefined || Buffer.compare(old.subarray(0, piece.length), piece) !== 0) {
        const bytes = new Uint8Array(image.clusterSize);
        bytes.set(piece);
        clusters.set(number, { kind: 'data', bytes, allocated: ALL, zeros: NONE });
      }
    }
    if (snapshot !== undefined) image.snapshot(snapshot);
  }
  return image.build();
}
