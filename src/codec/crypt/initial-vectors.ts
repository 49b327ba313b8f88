import { createHash } from 'node:crypto';
import { AesBlocks } from './aes.js';
import { BLOCK, ownWords } from './blocks.js';

const TWO_32 = 2 ** 32;

/** How a sector's number becomes the block its encryption begins with. */
export type IvGenerator = 'plain' | 'plain64' | 'essiv';

/** The initial vectors of consecutive sectors, a block each, in memory that the next call uses again. */
export class InitialVectors {
  private blocks = Buffer.alloc(0);
  private readonly salted: AesBlocks | undefined;

  /**
   * `plain` and `plain64` are the number, 32 or 64 bits wide, little-endian; `essiv` is the number encrypted under
   * the hash of the key, so that it cannot be told in advance. The hash yields 16, 24 or 32 bytes.
   */
  constructor(
    private readonly generator: IvGenerator,
    key: Uint8Array,
    hash = 'sha256',
  ) {
    if (generator !== 'essiv') return;
    const salt = createHash(hash).update(key).digest();
    this.salted = new AesBlocks(salt);
    salt.fill(0);
  }

  of(first: number, sectors: number): Int32Array {
    if (this.blocks.length < sectors * BLOCK) this.blocks = Buffer.alloc(sectors * BLOCK);
    const { blocks, generator } = this;
    for (let n = 0; n < sectors; n++) {
      const sector = first + n;
      blocks.writeUInt32LE(sector % TWO_32, n * BLOCK);
      if (generator !== 'plain') blocks.writeUInt32LE(Math.floor(sector / TWO_32), n * BLOCK + 4);
    }
    const numbers = blocks.subarray(0, sectors * BLOCK);
    return ownWords(this.salted?.encrypt(numbers) ?? numbers);
  }

  close(): void {
    this.salted?.close();
  }
}
