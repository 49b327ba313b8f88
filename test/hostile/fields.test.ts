import { expect } from 'chai';
import type { Image } from '../../src/image/image.js';
import type { FieldPlace, Specimen } from '../../src/image/samples.js';
import { asBuffer } from '../../src/lib/bits.js';
import { ImgfsError } from '../../src/lib/errors.js';
import { exercise } from '../support/exercise.js';
import { fieldValue, imageFormats, samplesOf, setField } from '../support/samples.js';
import { Random } from '../support/seed.js';

/** Values that past bugs were made of; a value wider than the field is cut to it. */
function values(field: FieldPlace, image: Buffer): ReadonlySet<bigint> {
  const mask = 2n ** BigInt(field.bytes * 8) - 1n;
  const before = fieldValue(image, field);
  const size = BigInt(image.length);
  const powers = [9n, 12n, 15n, 16n, 31n, 32n, 48n, 52n, 53n, 56n, 62n, 63n].map((bits) => 2n ** bits);
  const wanted = [
    0n,
    1n,
    2n,
    3n,
    mask,
    mask - 1n,
    mask - 511n,
    before + 1n,
    before - 1n,
    before + 512n,
    before + 4096n,
  ];
  const all = [...wanted, ...powers, ...powers.map((n) => n - 1n), size, size - 1n, size - 512n, (1n << 62n) + size];
  return new Set(all.map((value) => value & mask).filter((value) => value !== before));
}

function withValue(image: Uint8Array, field: FieldPlace, value: bigint): Buffer {
  const changed = Buffer.from(image);
  setField(changed, field, value);
  return changed;
}

/** Outside the range a field touches the disk reads as before, wherever it can be read at all. */
function checkUntouched(image: Image, specimen: Specimen, { touches }: FieldPlace): void {
  if (touches === undefined) return;
  expect(image.size).to.equal(specimen.disk.length);
  for (let at = 0; at < image.size; at += image.blockSize) {
    const into = new Uint8Array(Math.min(image.blockSize, image.size - at));
    const touched = at < touches.start + touches.length && at + into.length > touches.start;
    try {
      image.read(into, at);
    } catch (error) {
      if (touched && error instanceof ImgfsError) continue;
      throw error;
    }
    if (!touched) expect(Buffer.compare(into, specimen.disk.subarray(at, at + into.length)), `at ${at}`).to.equal(0);
  }
}

for (const format of imageFormats) {
  for (const specimen of samplesOf(format.name).specimens()) {
    const { beside } = specimen;
    describe(`hostile: fields of ${format.name}, ${specimen.name}`, () => {
      for (const field of specimen.fields) {
        it(`field-sweep ${field.name}`, () => {
          const random = new Random(field.at);
          for (const value of values(field, asBuffer(specimen.image))) {
            try {
              exercise(
                format,
                withValue(specimen.image, field, value),
                { reads: 8, extents: 60, random, beside },
                (image) => checkUntouched(image, specimen, field),
              );
            } catch (error) {
              throw new Error(`${field.name} = ${value}`, { cause: error });
            }
          }
        });
      }

      it('all-ones and all-zero: every field at once, and one after the other', () => {
        for (const fill of [0xff, 0]) {
          const all = Buffer.from(specimen.image);
          for (const { name, at, bytes } of specimen.fields) {
            if (/magic|version/.test(name)) continue;
            all.fill(fill, at, at + bytes);
            exercise(format, all, { reads: 4, extents: 20, random: new Random(at), beside });
          }
        }
      });
    });
  }
}
