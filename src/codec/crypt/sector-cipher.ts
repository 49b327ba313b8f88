import { asBuffer } from '../../lib/bits.js';
import { AES_KEY_BYTES, AesBlocks, AesChain } from './aes.js';
import {
  asTweaks,
  BLOCK_WORDS,
  gatherMasked,
  maskWithTweaks,
  ownWords,
  SECTOR,
  scatter,
  unchain,
  wordsOf,
  xor,
} from './blocks.js';
import { InitialVectors, type IvGenerator } from './initial-vectors.js';

/** Encrypts sectors of 512 bytes under their numbers. Not to be used after `close`, which clears the key. */
export interface SectorCipher {
  /** Fills `into` with what `from` becomes: equally long, whole sectors, the first of them number `sector`. */
  encrypt(from: Uint8Array, into: Uint8Array, sector: number): void;
  /** In place. */
  decrypt(bytes: Uint8Array, sector: number): void;
  close(): void;
}

export interface CipherSpec {
  readonly mode: 'xts' | 'cbc';
  readonly generator: IvGenerator;
  /** Of `essiv`. */
  readonly generatorHash?: string | undefined;
}

/** Bytes that go through the cipher at once: all that is touched for them stays in the processor's cache. */
const STRIDE = 64 * 1024;
/** From so many sectors on, CBC is faster a block of every sector at a time than a sector at a time. */
const MANY_SECTORS = 16;

/** The keys AES takes in that mode, in bytes: XTS has two of them, one behind the other. */
export function keyBytesOf(mode: CipherSpec['mode']): readonly number[] {
  return mode === 'xts' ? AES_KEY_BYTES.map((bytes) => 2 * bytes) : AES_KEY_BYTES;
}

/** AES in the mode. `key` has one of the lengths of `keyBytesOf` and stays its owner's, who wipes it. */
export function aesSectors(spec: CipherSpec, key: Uint8Array): SectorCipher {
  return new Strides(spec.mode === 'xts' ? new Xts(spec, key) : new Cbc(spec, key));
}

/** At most STRIDE bytes at a time, as words. */
interface Mode {
  encrypt(from: Int32Array, into: Int32Array, sector: number): void;
  decrypt(words: Int32Array, sector: number): void;
  close(): void;
}

class Strides implements SectorCipher {
  constructor(private readonly mode: Mode) {}

  encrypt(from: Uint8Array, into: Uint8Array, sector: number): void {
    for (let at = 0; at < from.length; at += STRIDE) {
      const target = into.subarray(at, at + STRIDE);
      // Words must begin at a multiple of four; a buffer that does not is copied.
      const words = wordsOf(target) ?? new Int32Array(target.length / 4);
      const source = from.subarray(at, at + STRIDE);
      this.mode.encrypt(wordsOf(source) ?? copied(source), words, sector + at / SECTOR);
      if (words.buffer !== target.buffer) target.set(bytesOf(words));
    }
  }

  decrypt(bytes: Uint8Array, sector: number): void {
    for (let at = 0; at < bytes.length; at += STRIDE) {
      const target = bytes.subarray(at, at + STRIDE);
      const words = wordsOf(target) ?? copied(target);
      this.mode.decrypt(words, sector + at / SECTOR);
      if (words.buffer !== target.buffer) target.set(bytesOf(words));
    }
  }

  close(): void {
    this.mode.close();
  }
}

/** XTS (IEEE 1619): each block is masked, before and after the cipher, by a tweak made of sector and place. */
class Xts implements Mode {
  private readonly blocks: AesBlocks;
  private readonly tweaker: AesBlocks;
  private readonly ivs: InitialVectors;

  constructor({ generator, generatorHash }: CipherSpec, key: Uint8Array) {
    const half = key.length / 2;
    this.blocks = new AesBlocks(key.subarray(0, half));
    this.tweaker = new AesBlocks(key.subarray(half));
    this.ivs = new InitialVectors(generator, key, generatorHash);
  }

  encrypt(from: Int32Array, into: Int32Array, sector: number): void {
    const sectors = sectorsIn(into);
    const tweaks = this.tweaks(sector, sectors);
    maskWithTweaks(into, from, tweaks, sectors);
    maskWithTweaks(into, ownWords(this.blocks.encrypt(bytesOf(into))), tweaks, sectors);
  }

  decrypt(words: Int32Array, sector: number): void {
    const sectors = sectorsIn(words);
    const tweaks = this.tweaks(sector, sectors);
    maskWithTweaks(words, words, tweaks, sectors);
    maskWithTweaks(words, ownWords(this.blocks.decrypt(bytesOf(words))), tweaks, sectors);
  }

  close(): void {
    this.blocks.close();
    this.tweaker.close();
    this.ivs.close();
  }

  /** The first of each sector. */
  private tweaks(sector: number, sectors: number): Int32Array {
    return asTweaks(ownWords(this.tweaker.encrypt(bytesOf(this.ivs.of(sector, sectors)))));
  }
}

/** CBC from a vector of the sector's own: each block is masked by the ciphertext before it. */
class Cbc implements Mode {
  private readonly blocks: AesBlocks;
  private readonly chain: AesChain;
  private readonly ivs: InitialVectors;
  /** What the chain will mask the next block with. */
  private last = new Int32Array(BLOCK_WORDS);
  /** A block of every sector, on its way to the cipher. */
  private column = new Int32Array(0);

  constructor({ generator, generatorHash }: CipherSpec, key: Uint8Array) {
    this.blocks = new AesBlocks(key);
    this.chain = new AesChain(key);
    this.ivs = new InitialVectors(generator, key, generatorHash);
  }

  encrypt(from: Int32Array, into: Int32Array, sector: number): void {
    const sectors = sectorsIn(from);
    const ivs = this.ivs.of(sector, sectors);
    if (sectors < MANY_SECTORS) this.sectorBySector(from, into, ivs, sectors);
    else this.blockByBlock(from, into, ivs, sectors);
  }

  /** Each block waits for the one before it, but no sector for another: the first blocks of all, then the second ... */
  private blockByBlock(from: Int32Array, into: Int32Array, ivs: Int32Array, sectors: number): void {
    if (this.column.length < sectors * BLOCK_WORDS) this.column = new Int32Array(sectors * BLOCK_WORDS);
    const column = this.column.subarray(0, sectors * BLOCK_WORDS);
    let before = ivs;
    for (let word = 0; word < SECTOR / 4; word += BLOCK_WORDS) {
      gatherMasked(column, before, from, word);
      before = ownWords(this.blocks.encrypt(bytesOf(column)));
      scatter(into, before, word);
    }
  }

  /** One chain for all; what it carries over from sector to sector is taken out again. */
  private sectorBySector(from: Int32Array, into: Int32Array, ivs: Int32Array, sectors: number): void {
    const words = SECTOR / 4;
    into.set(from);
    for (let n = 0; n < sectors; n++) {
      const here = into.subarray(n * words, (n + 1) * words);
      xor(here, here, ivs.subarray(n * BLOCK_WORDS), BLOCK_WORDS);
      xor(here, here, this.last, BLOCK_WORDS);
      here.set(ownWords(this.chain.encrypt(bytesOf(here))));
      this.last.set(here.subarray(words - BLOCK_WORDS));
    }
  }

  decrypt(words: Int32Array, sector: number): void {
    const sectors = sectorsIn(words);
    unchain(words, ownWords(this.blocks.decrypt(bytesOf(words))), this.ivs.of(sector, sectors), sectors);
  }

  close(): void {
    this.blocks.close();
    this.chain.close();
    this.ivs.close();
  }
}

function sectorsIn({ byteLength }: Int32Array): number {
  return byteLength / SECTOR;
}

function bytesOf(words: Int32Array): Uint8Array {
  return new Uint8Array(words.buffer, words.byteOffset, words.byteLength);
}

function copied(bytes: Uint8Array): Int32Array {
  const words = new Int32Array(bytes.length / 4);
  bytesOf(words).set(asBuffer(bytes));
  return words;
}
