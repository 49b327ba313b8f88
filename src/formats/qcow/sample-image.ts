/** Recipes for qcow images, built purely in memory, for tests and the fuzzer. */
import { aesSectors } from '../../codec/crypt/sector-cipher.js';
import { deflate } from '../../codec/inflate.js';
import { QCOW_AES, qcowAesKey } from '../../image/encrypted.js';
import { SAMPLE_PASSPHRASE } from '../../image/samples.js';
import { roundUp } from '../../lib/bits.js';
import {
  CRYPT,
  ENTRY_BYTES,
  encodeEntries,
  encodeHeader,
  encodePacked,
  HEADER_BYTES,
  MAGIC,
  SECTOR,
  VERSION,
} from './layout.js';

export interface SampleOptions {
  readonly size: number;
  readonly clusterBits?: number;
  readonly l2Bits?: number;
  readonly backing?: string;
  /** By SAMPLE_PASSPHRASE. Nothing is compressed then. */
  readonly encrypted?: boolean;
  /** Clusters lie on the host in an order that has nothing to do with the guest's. */
  readonly shuffled?: boolean;
}

interface SampleCluster {
  /** A whole cluster. */
  readonly bytes: Uint8Array;
  readonly stream: Uint8Array | undefined;
}

export interface BuiltSample {
  readonly image: Buffer;
  readonly l1At: number;
  /** L1 entry to host offset. */
  readonly l2At: ReadonlyMap<number, number>;
}

/** An image in the making. Misuse throws RangeError: recipes are code, not input. */
export class SampleImage {
  readonly clusterSize: number;
  private readonly l2Entries: number;
  private readonly clusters = new Map<number, SampleCluster>();

  constructor(private readonly options: SampleOptions) {
    this.clusterSize = 2 ** (options.clusterBits ?? 12);
    this.l2Entries = 2 ** (options.l2Bits ?? 9);
  }

  /** Stores whole clusters; a short end is filled with zeros. */
  write(at: number, bytes: Uint8Array): this {
    for (let done = 0; done < bytes.length; done += this.clusterSize) {
      this.clusters.set(this.number(at + done), { bytes: this.whole(bytes.subarray(done)), stream: undefined });
    }
    return this;
  }

  /** Stores one cluster compressed; `stream` replaces what would be made of `bytes`. */
  pack(at: number, bytes: Uint8Array, stream = deflate(this.whole(bytes))): this {
    const whole = this.whole(bytes);
    if (stream.length >= this.clusterSize) throw new RangeError('this does not compress');
    this.clusters.set(this.number(at), { bytes: whole, stream });
    return this;
  }

  /** What the guest reads, with zeros where nothing is stored. */
  plain(): Uint8Array {
    const disk = new Uint8Array(this.options.size);
    for (const [number, { bytes }] of this.clusters) {
      const at = number * this.clusterSize;
      disk.set(bytes.subarray(0, disk.length - at), at);
    }
    return disk;
  }

  build(): BuiltSample {
    const { size, clusterBits = 12, l2Bits = 9, backing = '', encrypted = false } = this.options;
    const name = Buffer.from(backing);
    const l1At = roundUp(HEADER_BYTES + name.length, ENTRY_BYTES);
    const l1Entries = Math.ceil(size / (this.clusterSize * this.l2Entries));
    const header = encodeHeader({
      magic: MAGIC,
      version: VERSION,
      backingAt: name.length === 0 ? 0 : HEADER_BYTES,
      backingBytes: name.length,
      modified: 0,
      size,
      clusterBits,
      l2Bits,
      padding: 0,
      cryptMethod: encrypted ? CRYPT.aes : CRYPT.none,
      l1At,
    });
    const places = this.places(roundUp(l1At + l1Entries * ENTRY_BYTES, this.clusterSize));
    const image = Buffer.alloc(places.end);
    image.set(header);
    image.set(name, HEADER_BYTES);
    for (const [table, at] of places.l2At) image.set(encodeEntries(at, 1, 0), l1At + table * ENTRY_BYTES);
    for (const [number, at] of places.clusterAt) this.store(image, number, at, places.l2At);
    if (encrypted) this.seal(image, places.clusterAt);
    return { image, l1At, l2At: places.l2At };
  }

  /** Tables and clusters, then streams, one right after the other. */
  private places(from: number): Places {
    const numbers = [...this.clusters.keys()].sort((a, b) => a - b);
    const tables = [...new Set(numbers.map((number) => Math.floor(number / this.l2Entries)))];
    const l2At = new Map<number, number>();
    const clusterAt = new Map<number, number>();
    let end = from;
    const place = (into: Map<number, number>, number: number, bytes: number): void => {
      into.set(number, end);
      end = roundUp(end + bytes, this.clusterSize);
    };
    const whole = numbers.filter((number) => this.clusters.get(number)?.stream === undefined);
    const half = this.options.shuffled === true ? whole.splice(0, Math.ceil(whole.length / 2)) : [];
    for (const number of whole) place(clusterAt, number, this.clusterSize);
    for (const table of tables) place(l2At, table, this.l2Entries * ENTRY_BYTES);
    for (const number of half.reverse()) place(clusterAt, number, this.clusterSize);
    for (const number of numbers) {
      const stream = this.clusters.get(number)?.stream;
      if (stream === undefined) continue;
      clusterAt.set(number, end);
      end += stream.length;
    }
    return { l2At, clusterAt, end };
  }

  private store(image: Buffer, number: number, at: number, l2At: ReadonlyMap<number, number>): void {
    const { bytes, stream } = this.clusters.get(number) ?? { bytes: new Uint8Array(), stream: undefined };
    const table = Math.floor(number / this.l2Entries);
    const entryAt = (l2At.get(table) ?? 0) + (number % this.l2Entries) * ENTRY_BYTES;
    image.set(stream ?? bytes, at);
    if (stream === undefined) image.set(encodeEntries(at, 1, 0), entryAt);
    else {
      const [high, low] = encodePacked({ offset: at, length: stream.length }, Math.log2(this.clusterSize));
      image.writeUInt32BE(high, entryAt);
      image.writeUInt32BE(low, entryAt + 4);
    }
  }

  /** Each sector under its guest's number. */
  private seal(image: Buffer, clusterAt: ReadonlyMap<number, number>): void {
    const cipher = aesSectors(QCOW_AES, qcowAesKey(Buffer.from(SAMPLE_PASSPHRASE)));
    for (const [number, at] of clusterAt) {
      const cluster = image.subarray(at, at + this.clusterSize);
      cipher.encrypt(cluster, cluster, (number * this.clusterSize) / SECTOR);
    }
    cipher.close();
  }

  private number(at: number): number {
    if (at % this.clusterSize !== 0) throw new RangeError(`${at} is not aligned`);
    return at / this.clusterSize;
  }

  private whole(bytes: Uint8Array): Uint8Array {
    const whole = new Uint8Array(this.clusterSize);
    whole.set(bytes.subarray(0, this.clusterSize));
    return whole;
  }
}

interface Places {
  readonly l2At: ReadonlyMap<number, number>;
  readonly clusterAt: ReadonlyMap<number, number>;
  readonly end: number;
}
