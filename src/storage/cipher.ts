import type { SectorCipher } from '../codec/crypt/sector-cipher.js';
import { roundDown, roundUp } from '../lib/bits.js';
import { readPadded, type Storage, type StorageExtent } from './storage.js';

export const SECTOR = 512;
/** Zeros are encrypted and written in steps of this. */
const STEP = 1024 * 1024;

/** How the plain bytes lie in the parent, and which sector's number each is encrypted under. */
export interface CipherPlace {
  /** Offset in the parent of plain byte 0. */
  readonly start?: number;
  /** The plain byte that begins sector 0: sectors are numbered, and cut, from here. Negative where 0 is not the first. */
  readonly origin?: number;
}

/**
 * Memory for what is on its way through a cipher, used again by every call: two threads that write parts of sectors
 * never share an object, and writes of one thread never overlap.
 */
export class Scratch {
  private bytes = new Uint8Array();

  room(length: number): Uint8Array {
    if (this.bytes.length < length) this.bytes = new Uint8Array(length);
    return this.bytes.subarray(0, length);
  }

  wipe(): void {
    this.bytes.fill(0);
  }
}

/**
 * Another storage's sectors in plain: offsets are those of the plain bytes, which are encrypted and decrypted in whole
 * sectors. Parts of a sector are written by reading, changing and writing all of it (`sector` tells so).
 *
 * Nothing encrypted reads as zeros that was not written: holes of the parent, and what lies past its end, read as what
 * a sector of zeros decrypts to, as QEMU has it. Parent and cipher stay their owner's and are not closed with it.
 */
export class CipherStorage implements Storage {
  readonly name: string;
  readonly writable: boolean;
  readonly sector = SECTOR;
  private readonly start: number;
  private readonly origin: number;

  constructor(
    private readonly parent: Storage,
    private readonly cipher: SectorCipher,
    { start = 0, origin = 0 }: CipherPlace = {},
    private readonly scratch = new Scratch(),
  ) {
    this.name = parent.name;
    this.writable = parent.writable;
    this.start = start;
    this.origin = origin;
  }

  size(): number {
    return Math.max(0, this.parent.size() - this.start);
  }

  read(into: Uint8Array, at: number): number {
    const { from, length } = this.covering(at, into.length);
    if (length === into.length) {
      readPadded(this.parent, into, this.start + at);
      this.cipher.decrypt(into, this.numberOf(at));
      return into.length;
    }
    const whole = this.scratch.room(length);
    this.open(whole, from);
    into.set(whole.subarray(at - from, at - from + into.length));
    return into.length;
  }

  write(bytes: Uint8Array, at: number): void {
    const { from, length } = this.covering(at, bytes.length);
    const whole = this.scratch.room(length);
    if (length === bytes.length) this.cipher.encrypt(bytes, whole, this.numberOf(at));
    else {
      if (at > from) this.open(whole.subarray(0, SECTOR), from);
      const last = from + length - SECTOR;
      if (at + bytes.length < from + length && (last > from || at === from)) {
        this.open(whole.subarray(length - SECTOR), last);
      }
      whole.set(bytes, at - from);
      this.cipher.encrypt(whole, whole, this.numberOf(from));
    }
    this.parent.write(whole, this.start + from);
  }

  flush(): void {
    this.parent.flush();
  }

  /** Zeros have to be encrypted and written, like anything else; where that fails, the length is what it was. */
  resize(size: number): void {
    const old = this.size();
    try {
      if (size > old) this.clear(old, size - old);
      this.parent.resize(this.start + size);
    } catch (error) {
      this.parent.resize(this.start + old);
      throw error;
    }
  }

  discard(at: number, length: number): void {
    this.clear(at, Math.min(length, this.size() - at));
  }

  allocate(at: number, length: number): void {
    this.parent.allocate(this.start + at, Math.max(0, Math.min(length, this.size() - at)));
    if (at + length > this.size()) this.clear(this.size(), at + length - this.size());
  }

  extent(at: number): StorageExtent {
    return { data: true, length: Math.max(1, this.size() - at) };
  }

  allocated(): number {
    return this.parent.allocated();
  }

  close(): void {}

  private clear(at: number, length: number): void {
    const zeros = new Uint8Array(Math.min(length, STEP));
    for (let done = 0; done < length; done += STEP) {
      this.write(zeros.subarray(0, Math.min(STEP, length - done)), at + done);
    }
  }

  /** Fills `into`, whole sectors from plain byte `from` on. */
  private open(into: Uint8Array, from: number): void {
    readPadded(this.parent, into, this.start + from);
    this.cipher.decrypt(into, this.numberOf(from));
  }

  private numberOf(at: number): number {
    return (at - this.origin) / SECTOR;
  }

  /** The whole sectors around a range. */
  private covering(at: number, length: number): { readonly from: number; readonly length: number } {
    const within = at - this.origin;
    const from = roundDown(within, SECTOR);
    return { from: from + this.origin, length: roundUp(within + length, SECTOR) - from };
  }
}
