/**
 * Inflates (RFC 1951) in steps of any length, and tells where it is, so that it can go on there later: what zlib's interface
 * in Node cannot do. Slower than zlib; used only for what must be read here and there in a long stream.
 */
import { corrupt } from '../../lib/errors.js';

/** Where packed bytes come from. */
export interface PackedSource {
  readonly name: string;
  size(): number;
  read(into: Uint8Array, at: number): number;
}

/** What is being decoded. */
type Block =
  | { readonly kind: 'none' }
  | { readonly kind: 'stored'; readonly left: number; readonly final: boolean }
  /** Code lengths, literals first: the tables are made from them again. */
  | { readonly kind: 'codes'; readonly lengths: Uint8Array; readonly literals: number; readonly final: boolean };

/** A place in a stream: structured-clone data. What was decoded before it is needed beside it. */
export interface InflatePlace {
  /** In bits, from the beginning of the source. */
  readonly bit: number;
  readonly block: Block;
  /** What is left of a repetition: how many bytes, from how far back. */
  readonly repeat: number;
  readonly distance: number;
}

/** How far back a repetition reaches, at most. */
export const WINDOW = 32_768;

const INPUT = 65_536;
/** Bytes that a step may take in without looking whether they are there. */
const SLACK = 16;
const FAST_BITS = 10;
const FAST = 1 << FAST_BITS;
const LONGEST = 15;
/** Bits that hold every code, so that none needs another look at the input. */
const ENOUGH = 16;

const LENGTH_BASE = Uint16Array.of(
  ...[
    3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258,
  ],
);
const LENGTH_EXTRA = Uint8Array.of(
  ...[0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0],
);
const DISTANCES = 30;
const DISTANCE_EXTRA = Uint8Array.from({ length: DISTANCES }, (_, n) => Math.max(0, (n >> 1) - 1));
const DISTANCE_BASE = Uint16Array.from({ length: DISTANCES }, (_, n) => {
  if (n < 4) return n + 1;
  return 1 + (1 << (n >> 1)) + ((n & 1) << ((n >> 1) - 1));
});
const LENGTH_ORDER = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15] as const;
const END_OF_BLOCK = 256;
const FIXED_LITERALS = 288;
const FIXED_LENGTHS = Uint8Array.from({ length: FIXED_LITERALS + DISTANCES }, (_, n) => {
  if (n >= FIXED_LITERALS) return 5;
  return n < 144 ? 8 : n < 256 ? 9 : n < 280 ? 7 : 8;
});

/** A canonical code: short ones by a table, long ones bit by bit. */
class Code {
  /** Symbol and length of the code that the next bits begin with: `symbol << 4 | length`, 0 for a long or unused one. */
  readonly fast = new Uint16Array(FAST);
  readonly counts = new Uint16Array(LONGEST + 1);
  readonly symbols: Uint16Array;

  /** Throws nothing: returns undefined for lengths that are no code. */
  static of(lengths: Uint8Array): Code | undefined {
    const code = new Code(lengths.length);
    const { counts, symbols, fast } = code;
    for (const length of lengths) counts[length]! += 1;
    counts[0] = 0;
    let left = 1;
    for (let length = 1; length <= LONGEST; length++) {
      left = left * 2 - counts[length]!;
      if (left < 0) return undefined;
    }
    const offsets = new Uint16Array(LONGEST + 2);
    const next = new Uint16Array(LONGEST + 2);
    for (let length = 1; length <= LONGEST; length++) {
      offsets[length + 1] = offsets[length]! + counts[length]!;
      next[length + 1] = (next[length]! + counts[length]!) << 1;
    }
    for (let symbol = 0; symbol < lengths.length; symbol++) {
      const length = lengths[symbol]!;
      if (length === 0) continue;
      symbols[offsets[length]!++] = symbol;
      const bits = next[length]!++;
      if (length > FAST_BITS) continue;
      for (let at = reversed(bits, length); at < FAST; at += 1 << length) fast[at] = (symbol << 4) | length;
    }
    return code;
  }

  private constructor(symbols: number) {
    this.symbols = new Uint16Array(symbols);
  }
}

function reversed(bits: number, length: number): number {
  let result = 0;
  for (let n = 0; n < length; n++) result |= ((bits >> n) & 1) << (length - 1 - n);
  return result;
}

export class Inflater {
  private readonly input = new Uint8Array(INPUT + SLACK);
  /** Where in the source the input begins, how many of its bytes there are, and how many were taken. */
  private inputAt = 0;
  private inputLength = 0;
  private taken = 0;
  private hold = 0;
  private held = 0;
  private block: Block = { kind: 'none' };
  private stored = 0;
  private literals: Code | undefined;
  private distances: Code | undefined;
  private repeat = 0;
  private distance = 0;

  constructor(private readonly source: PackedSource) {}

  /** Goes on at that place. */
  seek(place: InflatePlace): void {
    this.inputAt = Math.floor(place.bit / 8);
    this.inputLength = 0;
    this.taken = 0;
    this.hold = 0;
    this.held = 0;
    this.take(place.bit % 8);
    this.repeat = place.repeat;
    this.distance = place.distance;
    this.begin(place.block);
  }

  place(): InflatePlace {
    const { block, repeat, distance } = this;
    return {
      bit: (this.inputAt + this.taken) * 8 - this.held,
      block: block.kind === 'stored' ? { ...block, left: this.stored } : block,
      repeat,
      distance,
    };
  }

  /**
   * Fills `into` from `start` to `end`, or as far as the stream goes, and returns where it stopped. What was decoded before
   * must lie in front of `start`, of which `known` bytes are there. Throws `corrupt`.
   */
  fill(into: Uint8Array, start: number, end: number, known: number): number {
    let at = start;
    const first = start - known;
    while (at < end) {
      if (this.repeat > 0) at = this.repeated(into, at, end, first);
      else if (this.block.kind === 'none') this.nextBlock();
      else if (this.block.kind === 'stored') {
        if (this.stored === 0) {
          if (this.block.final) return at;
          this.block = { kind: 'none' };
        } else at = this.copyStored(into, at, end);
      } else if (!this.ended) at = this.decode(into, at, end, first);
      else if (this.block.final) return at;
      else this.block = { kind: 'none' };
    }
    return at;
  }

  /** The offset of the first byte behind the stream, once it has ended. */
  endAt(): number {
    return this.inputAt + this.taken - Math.floor(this.held / 8);
  }

  /** The code for the end of the block was seen. */
  private ended = false;

  private begin(block: Block): void {
    this.block = block;
    this.ended = false;
    if (block.kind === 'stored') this.stored = block.left;
    if (block.kind !== 'codes') return;
    this.literals = Code.of(block.lengths.subarray(0, block.literals));
    this.distances = Code.of(block.lengths.subarray(block.literals));
    if (this.literals === undefined || this.distances === undefined) throw this.damaged();
  }

  private nextBlock(): void {
    const final = this.take(1) === 1;
    const type = this.take(2);
    if (type === 0) this.begin({ kind: 'stored', left: this.storedLength(), final });
    else if (type === 1) this.begin({ kind: 'codes', lengths: FIXED_LENGTHS, literals: FIXED_LITERALS, final });
    else if (type === 2) this.begin({ kind: 'codes', ...this.readLengths(), final });
    else throw this.damaged();
  }

  private storedLength(): number {
    this.take(this.held % 8);
    const length = this.take(16);
    if (this.take(16) !== (length ^ 0xffff)) throw this.damaged();
    return length;
  }

  private readLengths(): { readonly lengths: Uint8Array; readonly literals: number } {
    const literals = this.take(5) + 257;
    const distances = this.take(5) + 1;
    const count = this.take(4) + 4;
    if (literals > 286 || distances > DISTANCES) throw this.damaged();
    const order = new Uint8Array(LENGTH_ORDER.length);
    for (const symbol of LENGTH_ORDER.slice(0, count)) order[symbol] = this.take(3);
    const code = Code.of(order);
    if (code === undefined) throw this.damaged();
    const lengths = new Uint8Array(literals + distances);
    for (let n = 0; n < lengths.length; ) {
      const symbol = this.symbol(code);
      if (symbol < 16) {
        lengths[n++] = symbol;
        continue;
      }
      if (symbol === 16 && n === 0) throw this.damaged();
      const value = symbol === 16 ? lengths[n - 1]! : 0;
      const times = symbol === 16 ? 3 + this.take(2) : symbol === 17 ? 3 + this.take(3) : 11 + this.take(7);
      if (n + times > lengths.length) throw this.damaged();
      lengths.fill(value, n, n + times);
      n += times;
    }
    if (lengths[END_OF_BLOCK] === 0) throw this.damaged();
    return { lengths, literals };
  }

  private copyStored(into: Uint8Array, at: number, end: number): number {
    // Whole bytes are held where a block begins; they come first.
    if (this.held > 0) {
      into[at] = this.take(8);
      this.stored--;
      return at + 1;
    }
    if (this.taken >= this.inputLength) this.refill();
    const length = Math.min(end - at, this.stored, this.inputLength - this.taken);
    into.set(this.input.subarray(this.taken, this.taken + length), at);
    this.taken += length;
    this.stored -= length;
    return at + length;
  }

  private repeated(into: Uint8Array, from: number, end: number, first: number): number {
    const { distance } = this;
    const stop = Math.min(end, from + this.repeat);
    if (from - distance < first) throw this.damaged();
    for (let at = from; at < stop; at++) into[at] = into[at - distance]!;
    this.repeat -= stop - from;
    return stop;
  }

  /** Literals and repetitions, until the block or the room ends. The loop that all the time is spent in. */
  private decode(into: Uint8Array, start: number, end: number, first: number): number {
    const literals = this.literals!;
    const distances = this.distances!;
    const { fast } = literals;
    const { input } = this;
    let { hold, held, taken, inputLength } = this;
    let at = start;
    while (at < end) {
      if (taken + SLACK > inputLength) {
        this.taken = taken;
        this.refill();
        ({ taken, inputLength } = this);
      }
      while (held <= ENOUGH) {
        hold |= input[taken++]! << held;
        held += 8;
      }
      const found = fast[hold & (FAST - 1)]!;
      if (found !== 0 && found >> 4 < END_OF_BLOCK) {
        hold >>>= found & 15;
        held -= found & 15;
        into[at++] = found >> 4;
        continue;
      }
      this.hold = hold;
      this.held = held;
      this.taken = taken;
      const symbol = this.symbol(literals);
      if (symbol < END_OF_BLOCK) into[at++] = symbol;
      else if (symbol === END_OF_BLOCK) {
        this.ended = true;
        return at;
      } else {
        this.readRepeat(symbol - END_OF_BLOCK - 1, distances);
        at = this.repeated(into, at, end, first);
      }
      ({ hold, held, taken, inputLength } = this);
    }
    this.hold = hold;
    this.held = held;
    this.taken = taken;
    return at;
  }

  private readRepeat(n: number, distances: Code): void {
    if (n >= LENGTH_BASE.length) throw this.damaged();
    this.repeat = LENGTH_BASE[n]! + this.take(LENGTH_EXTRA[n]!);
    const far = this.symbol(distances);
    if (far >= DISTANCES) throw this.damaged();
    this.distance = DISTANCE_BASE[far]! + this.take(DISTANCE_EXTRA[far]!);
  }

  private symbol({ fast, counts, symbols }: Code): number {
    this.want(LONGEST);
    const found = fast[this.hold & (FAST - 1)]!;
    if (found !== 0) {
      this.drop(found & 15);
      return found >> 4;
    }
    let code = 0;
    let first = 0;
    let index = 0;
    for (let length = 1; length <= LONGEST; length++) {
      code |= (this.hold >> (length - 1)) & 1;
      const count = counts[length]!;
      if (code - count < first) {
        this.drop(length);
        return symbols[index + code - first]!;
      }
      index += count;
      first = (first + count) << 1;
      code <<= 1;
    }
    throw this.damaged();
  }

  private take(bits: number): number {
    this.want(bits);
    const value = this.hold & ((1 << bits) - 1);
    this.drop(bits);
    return value;
  }

  private want(bits: number): void {
    while (this.held < bits) {
      if (this.taken >= this.inputLength) this.refill();
      this.hold |= this.input[this.taken++]! << this.held;
      this.held += 8;
    }
  }

  private drop(bits: number): void {
    this.hold >>>= bits;
    this.held -= bits;
  }

  /**
   * More input behind what is left of it. Behind its end there are some zeros, so that a code can be looked up that is
   * shorter than the longest; a stream that needs them is cut short.
   */
  private refill(): void {
    const { input, source } = this;
    const left = this.inputLength - this.taken;
    if (left < 0) throw this.cut();
    input.copyWithin(0, this.taken, this.inputLength);
    this.inputAt += this.taken;
    this.taken = 0;
    const got = source.read(input.subarray(left, INPUT), this.inputAt + left);
    this.inputLength = left + got;
    if (got > 0) return;
    if (this.inputAt + left > source.size() + SLACK) throw this.cut();
    input.fill(0, left, left + SLACK);
    this.inputLength = left + SLACK;
  }

  private damaged(): Error {
    return corrupt(`${this.source.name}: the packed stream is damaged near ${this.inputAt + this.taken}`);
  }

  private cut(): Error {
    return corrupt(`${this.source.name}: the packed stream is cut short`);
  }
}
