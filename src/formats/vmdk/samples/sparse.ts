/** Recipes for sparse extents of every kind, built purely in memory. Not on any path of reading an image. */
import { deflateZlib } from '../../../codec/inflate.js';
import { littleEndianBytes, roundUp } from '../../../lib/bits.js';
import {
  COWD_ENTRIES,
  encodeCowd,
  encodeGrainMarker,
  encodeHosted,
  encodeMarker,
  encodeSeSparse,
  encodeVolatile,
  HEADER_BYTES,
  type HostedFields,
  type Kind,
  MARKER_TYPE,
  SECTOR,
  seSparseGrainEntry,
  seSparseTableEntry,
} from '../layout.js';

export interface SparseOptions {
  /** Guest bytes. */
  readonly size: number;
  readonly kind?: Kind;
  readonly grainSectors?: number;
  readonly version?: number;
  /** Hosted: 512 unless told. */
  readonly entriesPerTable?: number;
  readonly zeroGrains?: boolean;
  readonly redundant?: boolean;
  /** Grains are compressed; with markers, or as a bare stream each. */
  readonly compressed?: 'markers' | 'bare';
  /** The directory follows the grains, and a footer says where. */
  readonly footer?: boolean;
  /** Text of the embedded descriptor. */
  readonly text?: string;
  /** Seed by which grains are put out of order; undefined keeps them in order. */
  readonly shuffle?: number;
  /** Tables of which nothing is used are left out of the directory. */
  readonly lazyTables?: boolean;
  readonly unclean?: boolean;
  /** Not a delta, as a COWD header says it. */
  readonly root?: boolean;
}

/** The extent, and where its parts lie in it: byte offsets. */
export interface BuiltExtent {
  readonly image: Buffer;
  readonly directoryAt: number;
  readonly redundantAt: number;
  /** By table number. */
  readonly tablesAt: ReadonlyMap<number, number>;
  readonly copiesAt: ReadonlyMap<number, number>;
  /** By grain number. */
  readonly grainsAt: ReadonlyMap<number, number>;
}

const DESCRIPTOR_SECTORS = 20;

/** A sparse extent in the making. Misuse throws RangeError: recipes are code, not input. */
export class SampleExtent {
  readonly grainSize: number;
  readonly kind: Kind;
  private readonly entries: number;
  private readonly grains = new Map<number, Uint8Array | 'zero'>();

  constructor(readonly options: SparseOptions) {
    this.kind = options.kind ?? 'hosted';
    this.grainSize = (options.grainSectors ?? 8) * SECTOR;
    this.entries = { hosted: options.entriesPerTable ?? 512, cowd: COWD_ENTRIES, sesparse: 4096 }[this.kind];
  }

  /** Stores `bytes` at `at`, the beginning of a grain; a short end is filled with zeros. */
  write(at: number, bytes: Uint8Array): this {
    if (at % this.grainSize !== 0) throw new RangeError(`${at} is not aligned`);
    for (let done = 0; done < bytes.length; done += this.grainSize) {
      const grain = new Uint8Array(this.grainSize);
      grain.set(bytes.subarray(done, done + this.grainSize));
      this.grains.set((at + done) / this.grainSize, grain);
    }
    return this;
  }

  /** Makes one grain read as zeros by its entry. */
  zero(at: number): this {
    this.grains.set(at / this.grainSize, 'zero');
    return this;
  }

  /** What the guest reads; zeros where something below would show through. */
  plain(): Buffer {
    const disk = Buffer.alloc(this.options.size);
    for (const [number, grain] of this.grains) {
      const at = number * this.grainSize;
      if (grain !== 'zero') disk.set(grain.subarray(0, Math.max(0, disk.length - at)), at);
    }
    return disk;
  }

  build(): BuiltExtent {
    if (this.kind === 'cowd') return this.cowd();
    if (this.kind === 'sesparse') return this.seSparse();
    return this.options.footer === true ? this.stream() : this.hosted();
  }

  private get tableCount(): number {
    return Math.ceil(this.options.size / (this.grainSize * this.entries));
  }

  /** Numbers of the grains that are stored, in the order they are. */
  private get order(): readonly number[] {
    const numbers = [...this.grains.keys()].filter((n) => this.grains.get(n) !== 'zero').sort((a, b) => a - b);
    const { shuffle } = this.options;
    if (shuffle === undefined) return numbers;
    let state = shuffle;
    for (let n = numbers.length - 1; n > 0; n--) {
      state = (state * 1_664_525 + 1_013_904_223) % 2 ** 32;
      const other = Math.floor((state / 2 ** 32) * (n + 1));
      [numbers[n], numbers[other]] = [numbers[other]!, numbers[n]!];
    }
    return numbers;
  }

  private used(table: number): boolean {
    if (this.options.lazyTables !== true) return true;
    return [...this.grains.keys()].some((n) => Math.floor(n / this.entries) === table);
  }

  private bytesOf(number: number): Uint8Array {
    const grain = this.grains.get(number);
    if (grain === undefined || grain === 'zero') throw new RangeError(`grain ${number} is not stored`);
    return grain;
  }

  /** Tables in front, each in two copies, then the grains. */
  private hosted(): BuiltExtent {
    const { options, tableCount, entries } = this;
    const tableSectors = Math.ceil((entries * 4) / SECTOR);
    const directorySectors = Math.max(1, Math.ceil((tableCount * 4) / SECTOR));
    const copySectors = directorySectors + tableSectors * tableCount;
    const redundantAt = 1 + DESCRIPTOR_SECTORS;
    const directoryAt = redundantAt + copySectors;
    const overhead = roundUp(directoryAt + copySectors, this.grainSize / SECTOR);
    const parts = new Parts();
    const grainsAt = this.placeGrains(parts, overhead * SECTOR);
    const place = (at: number, table: number): number => (at + directorySectors + table * tableSectors) * SECTOR;
    const tablesAt = this.placeTables(parts, grainsAt, directoryAt * SECTOR, (n) => place(directoryAt, n));
    const copiesAt = this.placeTables(parts, grainsAt, redundantAt * SECTOR, (n) => place(redundantAt, n));
    parts.put(0, encodeHosted(this.header({ directoryAt, redundantAt, overhead })));
    if (options.text !== undefined) parts.put(SECTOR, Buffer.from(options.text));
    const image = parts.join(overhead * SECTOR);
    return {
      image,
      directoryAt: directoryAt * SECTOR,
      redundantAt: redundantAt * SECTOR,
      tablesAt,
      copiesAt,
      grainsAt,
    };
  }

  /** Grains, then the tables, each behind a marker, then the footer. */
  private stream(): BuiltExtent {
    const { options, tableCount, entries } = this;
    const overhead = roundUp(1 + DESCRIPTOR_SECTORS, this.grainSize / SECTOR);
    const parts = new Parts();
    const grainsAt = this.placeGrains(parts, overhead * SECTOR);
    let at = Math.max(overhead * SECTOR, parts.end);
    const tableBytes = entries * 4;
    const places = new Map<number, number>();
    for (let n = 0; n < tableCount; n++) {
      if (!this.used(n)) continue;
      parts.put(at, encodeMarker(MARKER_TYPE.table, tableBytes / SECTOR));
      places.set(n, at + SECTOR);
      at += SECTOR + tableBytes;
    }
    const directoryBytes = roundUp(tableCount * 4, SECTOR);
    parts.put(at, encodeMarker(MARKER_TYPE.directory, directoryBytes / SECTOR));
    const directoryAt = at + SECTOR;
    const tablesAt = this.placeTables(parts, grainsAt, directoryAt, (n) => places.get(n) ?? 0);
    at = directoryAt + directoryBytes;
    parts.put(at, encodeMarker(MARKER_TYPE.footer, 1));
    const fields = { directoryAt: directoryAt / SECTOR, redundantAt: 0, overhead };
    parts.put(at + SECTOR, encodeHosted(this.header(fields)));
    parts.put(at + 2 * SECTOR, encodeMarker(MARKER_TYPE.endOfStream, 0));
    parts.put(0, encodeHosted(this.header({ ...fields, directoryAt: 'at-end' })));
    if (options.text !== undefined) parts.put(SECTOR, Buffer.from(options.text));
    return { image: parts.join(0), directoryAt, redundantAt: 0, tablesAt, copiesAt: new Map(), grainsAt };
  }

  private cowd(): BuiltExtent {
    const { options, tableCount } = this;
    const directoryAt = HEADER_BYTES.cowd;
    const parts = new Parts();
    const tablesFrom = directoryAt + roundUp(tableCount * 4, SECTOR);
    const tableBytes = COWD_ENTRIES * 4;
    const used = Array.from({ length: tableCount }, (_, n) => n).filter((n) => this.used(n));
    const grainsAt = this.placeGrains(parts, roundUp(tablesFrom + used.length * tableBytes, this.grainSize));
    const place = (n: number): number => tablesFrom + used.indexOf(n) * tableBytes;
    const tablesAt = this.placeTables(parts, grainsAt, directoryAt, place);
    const end = roundUp(Math.max(parts.end, tablesFrom), SECTOR);
    parts.put(
      0,
      encodeCowd({
        version: 1,
        root: options.root !== false,
        capacity: options.size / SECTOR,
        grainSectors: this.grainSize / SECTOR,
        directoryAt: directoryAt / SECTOR,
        directoryEntries: tableCount,
        freeSector: end / SECTOR,
        unclean: options.unclean === true,
      }),
    );
    return { image: parts.join(end), directoryAt, redundantAt: 0, tablesAt, copiesAt: new Map(), grainsAt };
  }

  private seSparse(): BuiltExtent {
    const { options, tableCount } = this;
    const parts = new Parts();
    const directoryAt = 4 * SECTOR;
    const directoryBytes = roundUp(tableCount * 8, SECTOR);
    const tablesFrom = directoryAt + directoryBytes;
    const tableBytes = 4096 * 8;
    const used = Array.from({ length: tableCount }, (_, n) => n).filter((n) => this.used(n));
    const grainsFrom = roundUp(tablesFrom + used.length * tableBytes, this.grainSize);
    const grainsAt = this.placeGrains(parts, grainsFrom);
    const directory = new Uint32Array(directoryBytes / 4);
    const tablesAt = new Map<number, number>();
    for (const [place, table] of used.entries()) {
      directory.set(seSparseTableEntry(place), table * 2);
      tablesAt.set(table, tablesFrom + place * tableBytes);
      parts.put(tablesFrom + place * tableBytes, this.seSparseTable(table, grainsAt, grainsFrom));
    }
    parts.put(directoryAt, littleEndianBytes(directory));
    const grainsSectors = (Math.max(parts.end, grainsFrom) - grainsFrom) / SECTOR;
    parts.put(
      0,
      encodeSeSparse({
        capacity: options.size / SECTOR,
        grainSectors: this.grainSize / SECTOR,
        tableSectors: tableBytes / SECTOR,
        flags: 0,
        volatileAt: 1,
        directoryAt: directoryAt / SECTOR,
        directorySectors: directoryBytes / SECTOR,
        tablesAt: tablesFrom / SECTOR,
        tablesSectors: (used.length * tableBytes) / SECTOR,
        grainsAt: grainsFrom / SECTOR,
        grainsSectors,
      }),
    );
    parts.put(SECTOR, encodeVolatile(options.unclean === true));
    return { image: parts.join(grainsFrom), directoryAt, redundantAt: 0, tablesAt, copiesAt: new Map(), grainsAt };
  }

  private seSparseTable(table: number, grainsAt: ReadonlyMap<number, number>, from: number): Buffer {
    const words = new Uint32Array(4096 * 2);
    for (const [number, grain] of this.grains) {
      if (Math.floor(number / 4096) !== table) continue;
      const place = ((grainsAt.get(number) ?? from) - from) / this.grainSize;
      words.set(
        seSparseGrainEntry(grain === 'zero' ? (number % 2 === 0 ? 'zero' : 'unmapped') : place),
        (number % 4096) * 2,
      );
    }
    return littleEndianBytes(words);
  }

  /** Puts the stored grains from `at` on; returns where each lies. */
  private placeGrains(parts: Parts, at: number): ReadonlyMap<number, number> {
    const places = new Map<number, number>();
    let next = at;
    for (const number of this.order) {
      places.set(number, next);
      const bytes = this.storedGrain(number);
      parts.put(next, bytes);
      next = roundUp(next + bytes.length, SECTOR);
    }
    return places;
  }

  private storedGrain(number: number): Uint8Array {
    const { compressed } = this.options;
    if (compressed === undefined) return this.bytesOf(number);
    const packed = deflateZlib(this.bytesOf(number));
    if (compressed === 'bare') return packed;
    const marker = encodeGrainMarker((number * this.grainSize) / SECTOR, packed.length);
    return Buffer.concat([
      marker,
      packed,
      Buffer.alloc(roundUp(marker.length + packed.length, SECTOR) - marker.length - packed.length),
    ]);
  }

  /** One directory with its tables, where `place` says; returns where the tables lie. */
  private placeTables(
    parts: Parts,
    grainsAt: ReadonlyMap<number, number>,
    directoryAt: number,
    place: (table: number) => number,
  ): ReadonlyMap<number, number> {
    const { tableCount, entries } = this;
    const directory = new Uint32Array(roundUp(tableCount * 4, SECTOR) / 4);
    const places = new Map<number, number>();
    for (let table = 0; table < tableCount; table++) {
      if (!this.used(table)) continue;
      const words = new Uint32Array(entries);
      for (const [number, grain] of this.grains) {
        if (Math.floor(number / entries) !== table) continue;
        words[number % entries] = grain === 'zero' ? 1 : (grainsAt.get(number) ?? 0) / SECTOR;
      }
      directory[table] = place(table) / SECTOR;
      places.set(table, place(table));
      parts.put(place(table), littleEndianBytes(words));
    }
    parts.put(directoryAt, littleEndianBytes(directory));
    return places;
  }

  private header(fields: Pick<HostedFields, 'directoryAt' | 'redundantAt' | 'overhead'>): HostedFields {
    const { options } = this;
    return {
      version: options.version ?? 1,
      redundant: options.redundant !== false && fields.redundantAt !== 0,
      zeroGrains: options.zeroGrains === true,
      compressed: options.compressed !== undefined,
      markers: options.compressed === 'markers',
      capacity: options.size / SECTOR,
      grainSectors: this.grainSize / SECTOR,
      descriptorAt: options.text === undefined ? 0 : 1,
      descriptorSectors: options.text === undefined ? 0 : DESCRIPTOR_SECTORS,
      entriesPerTable: this.entries,
      unclean: options.unclean === true,
      compression: options.compressed === undefined ? 0 : 1,
      ...fields,
      redundantAt: options.redundant === false ? 0 : fields.redundantAt,
    };
  }
}

/** A file put together from its parts. */
class Parts {
  private readonly parts: { readonly at: number; readonly bytes: Uint8Array }[] = [];
  end = 0;

  put(at: number, bytes: Uint8Array): void {
    this.parts.push({ at, bytes });
    this.end = Math.max(this.end, at + bytes.length);
  }

  /** At least `length` long. */
  join(length: number): Buffer {
    const image = Buffer.alloc(Math.max(length, this.end));
    for (const { at, bytes } of this.parts) image.set(bytes, at);
    return image;
  }
}
