import { asBuffer } from '../../lib/bits.js';
import { AES_KEY_BYTES, AesBlocks, AesChain } from './aes.js';
import { asTweaks, BLOCK, maskWithTweaks, ownWords, SECTOR, unchain, wordsOf, xor } from './blocks.js';
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
  private last = new Int32Array(BLOCK / 4);

  constructor({ generator, generatorHash }: CipherSpec, key: Uint8Array) {
    this.blocks = new AesBlocks(key);
    this.chain = new AesChain(key);
    this.ivs = new InitialVectors(generator, key, generatorHash);
  }

  /** A sector at a time, as each block waits for the one before; what the chain carries over is taken out again. */
  encrypt(from: Int32Array, into: Int32Array, sector: number): void {
    const words = SECTOR / 4;
    const sectors = sectorsIn(from);
    const ivs = this.ivs.of(sector, sectors);
    into.set(from);
    for (let n = 0; n < sectors; n++) {
      const here = into.subarray(n * words, (n + 1) * words);
      xor(here, here, ivs.subarray((n * BLOCK) / 4), BLOCK / 4);
      xor(here, here, this.last, BLOCK / 4);
      here.set(ownWords(this.chain.encrypt(bytesOf(here))));
      this.last.set(here.subarray(words - BLOCK / 4));
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
