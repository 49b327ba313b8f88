/**
 * An audit of qcow2 structures written from the specification alone, sharing no code with the driver: refcounts,
 * COPIED flags, bounds and double use. Leaks are counted, everything else that is wrong is corruption.
 */
import type { Storage } from '../../src/storage/storage.js';

export interface Audit {
  readonly corruptions: readonly string[];
  /** Clusters with a higher refcount than they have users. */
  readonly leaks: number;
  readonly clusterSize: number;
}

const OFFSET_MASK = 0x00ff_ffff_ffff_fe00n;
const COPIED = 1n << 63n;
const PACKED = 1n << 62n;

/** No table is shorter. */
const CHUNK = 512;
const ZEROS = new Uint8Array(CHUNK);

/** Audits the image; what cannot be followed is reported, never thrown. */
export function auditQcow2(storage: Storage): Audit {
  const auditor = new Auditor(storage);
  try {
    auditor.run();
  } catch (error) {
    auditor.wrong(error instanceof Error ? error.message : String(error));
  }
  return { corruptions: auditor.corruptions, leaks: auditor.leaks, clusterSize: auditor.clusterSize };
}

class Auditor {
  readonly corruptions: string[] = [];
  leaks = 0;
  clusterSize = 0;
  private readonly header: DataView;
  private readonly users = new Map<number, number>();
  private readonly refcounts = new Map<number, bigint>();
  private extended = false;
  private external = false;

  constructor(private readonly storage: Storage) {
    this.header = this.view(0, 512);
  }

  run(): void {
    const { header } = this;
    const version = header.getUint32(4);
    this.clusterSize = 2 ** header.getUint32(20);
    const features = version === 2 ? 0n : header.getBigUint64(72);
    this.external = (features & 4n) !== 0n;
    this.extended = (features & 16n) !== 0n;
    if ((features & 3n) !== 0n) this.wrong('marked dirty or corrupt');
    const order = version === 2 ? 4 : header.getUint32(96);
    this.use(0, 1, 'header');
    const tableAt = Number(header.getBigUint64(48));
    const tableClusters = header.getUint32(56);
    this.use(tableAt, tableClusters * this.clusterSize, 'refcount table');
    this.readRefcounts(tableAt, tableClusters, order);
    this.walkL1(Number(header.getBigUint64(40)), header.getUint32(36), true);
    this.walkSnapshots(Number(header.getBigUint64(64)), header.getUint32(60), version);
    this.walkExtensions(version);
    this.compare();
  }

  wrong(what: string): void {
    if (this.corruptions.length < 20) this.corruptions.push(what);
  }

  private readRefcounts(tableAt: number, clusters: number, order: number): void {
    const bits = 2 ** order;
    const perBlock = (this.clusterSize * 8) / bits;
    const table = this.view(tableAt, clusters * this.clusterSize);
    for (let n = 0; n < table.byteLength / 8; n++) {
      const entry = table.getBigUint64(n * 8);
      if (entry === 0n) continue;
      const blockAt = Number(entry);
      this.use(blockAt, this.clusterSize, `refcount block ${n}`);
      if (blockAt % this.clusterSize !== 0) continue;
      const block = this.view(blockAt, this.clusterSize);
      for (const at of filled(block)) {
        for (let k = (at * 8) / bits; k < ((at + CHUNK) * 8) / bits && k < perBlock; k++) {
          const value = field(block, k, bits);
          if (value !== 0n) this.refcounts.set(n * perBlock + k, value);
        }
      }
    }
  }

  private walkL1(at: number, entries: number, active: boolean): void {
    if (entries === 0) return;
    this.use(at, entries * 8, 'L1 table');
    const table = this.view(at, entries * 8);
    for (let n = 0; n < entries; n++) {
      const entry = table.getBigUint64(n * 8);
      const l2At = Number(entry & OFFSET_MASK);
      if (l2At === 0) continue;
      this.use(l2At, this.clusterSize, `L2 table ${n}`);
      if (l2At % this.clusterSize !== 0) continue;
      if (active) this.checkCopied(entry, l2At, `L1 entry ${n}`);
      this.walkL2(l2At, active);
    }
  }

  private walkL2(at: number, active: boolean): void {
    const table = this.view(at, this.clusterSize);
    const width = this.extended ? 16 : 8;
    for (const from of filled(table)) {
      for (let n = from; n < from + CHUNK; n += width)
        this.walkEntry(table, n, `entry ${n / width} of L2 table ${at}`, active);
    }
  }

  private walkEntry(table: DataView, n: number, name: string, active: boolean): void {
    const entry = table.getBigUint64(n);
    if ((entry & PACKED) !== 0n) {
      this.usePacked(entry);
      return;
    }
    const dataAt = Number(entry & OFFSET_MASK);
    if (this.extended) this.checkSubclusters(table.getBigUint64(n + 8), dataAt);
    // Clusters of a data file are not counted.
    if (dataAt === 0 || this.external) return;
    this.use(dataAt, this.clusterSize, name);
    if (active) this.checkCopied(entry, dataAt, name);
  }

  private checkSubclusters(bitmap: bigint, dataAt: number): void {
    const allocated = bitmap & 0xffff_ffffn;
    if ((allocated & (bitmap >> 32n)) !== 0n) this.wrong('a subcluster is both allocated and zero');
    if (allocated !== 0n && dataAt === 0 && !this.external) this.wrong('a subcluster is allocated nowhere');
  }

  private usePacked(entry: bigint): void {
    const bits = BigInt(62 - (Math.log2(this.clusterSize) - 8));
    const offset = Number(entry & ((1n << bits) - 1n));
    const sectors = Number((entry & (PACKED - 1n)) >> bits) + 1;
    const end = offset - (offset % 512) + sectors * 512;
    if ((entry & COPIED) !== 0n) this.wrong('a compressed cluster is marked COPIED');
    const first = offset - (offset % this.clusterSize);
    for (let at = first; at < end; at += this.clusterSize) this.useCluster(at / this.clusterSize);
  }

  private walkSnapshots(at: number, count: number, version: number): void {
    let here = at;
    for (let n = 0; n < count; n++) {
      const fixed = this.view(here, 40);
      this.walkL1(Number(fixed.getBigUint64(0)), fixed.getUint32(8), false);
      const extra = fixed.getUint32(36);
      const length = 40 + extra + fixed.getUint16(12) + fixed.getUint16(14);
      if (version === 3 && extra < 16) this.wrong(`snapshot ${n} lacks its extra data`);
      here += Math.ceil(length / 8) * 8;
    }
    if (count > 0) this.use(at, here - at, 'snapshot table');
  }

  /** The bitmaps extension, where the autoclear bit says that it is to be believed. */
  /** What header extensions claim: bitmaps, where their autoclear bit makes them true, and the LUKS header. */
  private walkExtensions(version: number): void {
    if (version === 2) return;
    const bitmaps = (this.header.getBigUint64(88) & 1n) !== 0n;
    const area = this.view(0, this.clusterSize);
    for (let at = this.header.getUint32(100); at + 8 <= area.byteLength; ) {
      const [type, length] = [area.getUint32(at), area.getUint32(at + 4)];
      if (type === 0) return;
      if (type === 0x0537be77) {
        const [start, size] = [area.getBigUint64(at + 8), area.getBigUint64(at + 16)];
        this.use(Number(start), Number(size), 'LUKS header');
      }
      if (type === 0x23852875 && bitmaps) {
        const [count, size, directory] = [
          area.getUint32(at + 8),
          area.getBigUint64(at + 16),
          area.getBigUint64(at + 24),
        ];
        this.walkDirectory(Number(directory), Number(size), count);
      }
      at += 8 + Math.ceil(length / 8) * 8;
    }
  }

  private walkDirectory(at: number, size: number, count: number): void {
    this.use(at, size, 'bitmap directory');
    const directory = this.view(at, size);
    for (let n = 0, here = 0; n < count; n++) {
      const [tableAt, entries] = [Number(directory.getBigUint64(here)), directory.getUint32(here + 8)];
      this.use(tableAt, entries * 8, `table of bitmap ${n}`);
      const table = this.view(tableAt, entries * 8);
      for (let k = 0; k < entries; k++) {
        const dataAt = Number(table.getBigUint64(k * 8) & OFFSET_MASK);
        if (dataAt !== 0) this.use(dataAt, this.clusterSize, `bitmap ${n}`);
      }
      const length = 24 + directory.getUint16(here + 18) + directory.getUint32(here + 20);
      here += Math.ceil(length / 8) * 8;
    }
  }

  private checkCopied(entry: bigint, at: number, what: string): void {
    const alone = this.refcounts.get(at / this.clusterSize) === 1n;
    if (alone !== ((entry & COPIED) !== 0n)) this.wrong(`${what}: COPIED does not agree with its refcount`);
  }

  private use(at: number, length: number, what: string): void {
    if (at % this.clusterSize !== 0) {
      this.wrong(`${what} at ${at} is not aligned`);
      return;
    }
    if (at + length > this.storage.size() + this.clusterSize) this.wrong(`${what} at ${at} lies past the end`);
    if (at === 0 && what !== 'header') this.wrong(`${what} lies on the header`);
    for (let n = at / this.clusterSize; n * this.clusterSize < at + length; n++) this.useCluster(n);
  }

  private useCluster(number: number): void {
    this.users.set(number, (this.users.get(number) ?? 0) + 1);
  }

  private compare(): void {
    for (const [number, users] of this.users) {
      const refcount = this.refcounts.get(number) ?? 0n;
      if (refcount < BigInt(users)) this.wrong(`cluster ${number} has ${users} users and refcount ${refcount}`);
    }
    // Counts behind the end of the file are nothing lost: QEMU does not call them leaks either.
    const end = Math.ceil(this.storage.size() / this.clusterSize);
    for (const [number, refcount] of this.refcounts) {
      if (number < end && refcount > BigInt(this.users.get(number) ?? 0)) this.leaks++;
    }
  }

  private view(at: number, length: number): DataView {
    const bytes = new Uint8Array(length);
    this.storage.read(bytes, at);
    return new DataView(bytes.buffer);
  }
}

/** Where the view's pieces begin that are not all zeros: tables are mostly empty, and this runs for every state. */
function* filled(view: DataView): Generator<number> {
  const bytes = new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
  for (let at = 0; at < bytes.length; at += CHUNK) {
    if (Buffer.compare(bytes.subarray(at, at + CHUNK), ZEROS) !== 0) yield at;
  }
}

function field(block: DataView, n: number, bits: number): bigint {
  if (bits === 64) return block.getBigUint64(n * 8);
  if (bits === 32) return BigInt(block.getUint32(n * 4));
  if (bits === 16) return BigInt(block.getUint16(n * 2));
  if (bits === 8) return BigInt(block.getUint8(n));
  const perByte = 8 / bits;
  return BigInt((block.getUint8(Math.floor(n / perByte)) >> ((n % perByte) * bits)) & (2 ** bits - 1));
}
