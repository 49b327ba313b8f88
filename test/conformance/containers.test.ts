/** What every format of containers owes: one suite over the format table, as there is for images. */
import { expect } from 'chai';
import { formats } from '../../src/formats/index.js';
import type { Container } from '../../src/image/container.js';
import { ImgfsError } from '../../src/lib/errors.js';
import { bytesOf, containerFormats, containerSamples, containerStorage } from '../support/containers.js';
import { PATIENCE } from '../support/exercise.js';
import { outcome } from '../support/outcome.js';
import { Random } from '../support/seed.js';

for (const format of containerFormats) {
  const offer = containerSamples.get(format.name);
  if (offer === undefined) continue;
  /** As whoever opens the disks: one that is not there is an error. */
  const open = (fileName: string, bytes: Uint8Array): Container => {
    const opened = format.open(containerStorage(fileName, bytes));
    for (const { missing } of opened.disks) if (missing !== undefined) throw new ImgfsError('missing', missing);
    return opened;
  };

  describe(`conformance: ${format.name}`, () => {
    for (const { name, fileName, container, disks } of offer.good()) {
      it(`finds the disks of one ${name}`, () => {
        const opened = open(fileName, container);
        expect(opened.disks.map((disk) => disk.name)).to.deep.equal(disks.map((disk) => disk.name));
        for (const [n, disk] of opened.disks.entries()) {
          expect(bytesOf(disk, container).equals(disks[n]!.bytes), disk.name).to.equal(true);
        }
      });

      it(`is alone in claiming one ${name}`, () => {
        const bytes = Buffer.from(container);
        const [head, tail] = [bytes.subarray(0, 65_536), bytes.subarray(Math.max(0, bytes.length - 65_536))];
        const claims = formats.filter((one) => one.probe(head, tail, bytes.length));
        expect(claims.map((one) => one.name)).to.deep.equal([format.name]);
      });
    }

    for (const { name, fileName, container, reason } of offer.broken()) {
      it(`refuses ${name}, as ${reason}`, () => {
        const started = performance.now();
        expect(outcome(() => void open(fileName, container))).to.equal(reason);
        expect(performance.now() - started).to.be.lessThan(PATIENCE);
      });
    }

    it('truncation-sweep: cut anywhere, it is refused, or whole disks are found', () => {
      const [{ fileName, container, disks }] = offer.good() as [ReturnType<typeof offer.good>[number]];
      for (let length = 0; length < container.length; length += 101) {
        const cut = container.subarray(0, length);
        let opened: Container | undefined;
        const said = outcome(() => {
          opened = open(fileName, cut);
        });
        if (opened === undefined) expect(said).to.be.oneOf(['truncated', 'corrupt', 'missing', 'unsupported']);
        else
          for (const [n, disk] of opened.disks.entries())
            expect(bytesOf(disk, cut).equals(disks[n]!.bytes)).to.equal(true);
      }
    });

    it('ends in an answer whatever is changed', () => {
      const random = new Random();
      const all = offer.good();
      for (let n = 0; n < 1500; n++) {
        const { fileName, container } = random.pick(all);
        const bytes = Buffer.from(container.subarray(0, Math.min(container.length, 100_000)));
        for (let changes = 1 + random.below(4); changes > 0; changes--) {
          const at = random.below(random.below(3) === 0 ? bytes.length : Math.min(bytes.length, 8192));
          bytes[at] = random.below(256);
        }
        const started = performance.now();
        let opened: Container | undefined;
        outcome(() => {
          opened = open(fileName, bytes);
        });
        for (const disk of opened?.disks ?? [])
          for (const part of disk.parts) {
            if (part.reference !== undefined) continue;
            expect(part.at >= 512 && part.at + part.length <= bytes.length).to.equal(true);
          }
        expect(performance.now() - started).to.be.lessThan(PATIENCE);
      }
    });
  });
}
