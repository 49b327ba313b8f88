/** Mutations of a specimen, chosen by a generator: the recipe is repeated by the same seed and case number. */
import type { FieldPlace, Specimen } from '../../src/image/samples.js';
import { fieldValue, setField } from '../support/samples.js';
import type { Random } from '../support/seed.js';

export interface Mutant {
  readonly bytes: Buffer;
  /** What was done, for a report. */
  readonly recipe: string;
}

const POWERS = [0, 3, 8, 9, 12, 14, 15, 16, 20, 21, 31, 32, 33, 47, 48, 52, 53, 55, 56, 61, 62, 63];

/** Changes one to five things: mostly fields, now and then bytes, blocks or the length. */
export function mutate(specimen: Specimen, random: Random): Mutant {
  let bytes: Buffer = Buffer.from(specimen.image);
  const steps: string[] = [];
  for (let left = 1 + random.below(5); left > 0; left--) {
    const kind = random.below(20);
    if (kind < 14) steps.push(changeField(bytes, random.pick(specimen.fields), random));
    else if (kind < 17) steps.push(changeBytes(bytes, random));
    else if (kind < 19) steps.push(copyBlock(bytes, random));
    else {
      bytes = random.below(2) === 0 ? bytes.subarray(0, random.below(bytes.length)) : grown(bytes, random);
      steps.push(`length ${bytes.length}`);
    }
    if (bytes.length < 1024) break;
  }
  return { bytes, recipe: `${specimen.name}: ${steps.join(', ')}` };
}

function changeField(bytes: Buffer, field: FieldPlace, random: Random): string {
  const { name, at, bytes: width } = field;
  if (at + width > bytes.length) return `${name} is gone`;
  const value = BigInt.asUintN(width * 8, newValue(fieldValue(bytes, field), BigInt(bytes.length), random));
  setField(bytes, field, value);
  return `${name} = ${value}`;
}

function newValue(before: bigint, size: bigint, random: Random): bigint {
  const small = BigInt(random.below(64)) - 32n;
  switch (random.below(7)) {
    case 0:
      return 2n ** BigInt(random.pick(POWERS)) + small / 16n;
    case 1:
      return before + small;
    case 2:
      return before + small * 512n;
    case 3:
      return size + small * 256n;
    case 4:
      return before ^ (1n << BigInt(random.below(64)));
    case 5:
      return (BigInt(random.below(2 ** 32)) << 32n) + BigInt(random.below(2 ** 32));
    default:
      // A place inside the file, aligned as most places are.
      return BigInt(random.below(Number(size / 512n))) * 512n + (BigInt(random.below(4)) << 62n);
  }
}

function changeBytes(bytes: Buffer, random: Random): string {
  const at = random.below(random.below(2) === 0 ? Math.min(1024, bytes.length) : bytes.length);
  const length = 1 + random.below(8);
  for (let n = at; n < Math.min(at + length, bytes.length); n++) bytes[n] = random.below(256);
  return `${length} bytes at ${at}`;
}

function copyBlock(bytes: Buffer, random: Random): string {
  const blocks = Math.floor(bytes.length / 512);
  const [from, to] = [random.below(blocks) * 512, random.below(blocks) * 512];
  bytes.copy(bytes, to, from, from + 512);
  return `block ${from} to ${to}`;
}

function grown(bytes: Buffer, random: Random): Buffer {
  return Buffer.concat([bytes, Buffer.alloc(random.below(100_000))]);
}
