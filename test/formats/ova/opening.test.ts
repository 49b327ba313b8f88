import fs from 'node:fs';
import { expect } from 'chai';
import { formats } from '../../../src/formats/index.js';
import { samples } from '../../../src/formats/ova/samples.js';
import { type OpenOptions, openContainer, openImage } from '../../../src/image/open.js';
import { ImgfsError } from '../../../src/lib/errors.js';
import { outcome } from '../../support/outcome.js';
import { openDescriptors, scratch } from '../../support/scratch.js';

const OPTIONS: OpenOptions = {
  formats,
  references: { follow: true, allowed: [] },
  forceShare: false,
  warn: () => {},
};

describe('opening containers', () => {
  const here = scratch();

  function file(bytes: Uint8Array): string {
    fs.writeFileSync(here.path('sample.ova'), bytes);
    return here.path('sample.ova');
  }

  it('leaves nothing open when all is closed, in any order', () => {
    for (const { container, name } of samples.good()) {
      const path = file(container);
      const before = openDescriptors();
      const opened = openContainer(path, OPTIONS);
      if (opened === undefined) throw new Error(`${name} is no container`);
      // Their bytes are no vmdk: an image that fails to open must give up what it had, too.
      for (let n = 1; n <= opened.container.disks.length; n++) outcome(() => opened.openDisk(n).image.close());
      const stored = opened.container.files.map((one) => opened.openFile(one));
      opened.close();
      for (const storage of stored) storage.close();
      expect(openDescriptors(), name).to.deep.equal(before);
    }
  });

  it('leaves nothing open when it is refused, and gives its reason when it is opened as an image', () => {
    for (const { container, name, reason } of samples.broken()) {
      const path = file(container);
      const before = openDescriptors();
      openContainer(path, OPTIONS)?.close();
      let said: unknown;
      try {
        openImage(path, OPTIONS).image.close();
      } catch (error) {
        said = error;
      }
      expect(said, name).to.be.instanceOf(ImgfsError);
      // A disk that is there is looked at first: its bytes are no vmdk.
      if (reason !== 'missing') expect((said as ImgfsError).reason, name).to.equal(reason);
      expect(openDescriptors(), name).to.deep.equal(before);
    }
  });

  it('is refused as another format, for writing, and for a disk that is not there', () => {
    const [{ container }] = samples.good() as [ReturnType<typeof samples.good>[number]];
    const path = file(container);
    expect(outcome(() => void openImage(path, { ...OPTIONS, format: 'qcow2' }))).to.equal('corrupt');
    expect(outcome(() => void openImage(path, { ...OPTIONS, disk: 9 }))).to.equal('missing');
    expect(
      outcome(
        () =>
          void openImage(path, {
            ...OPTIONS,
            write: { references: false, direct: false, unsafe: false, threads: false },
          }),
      ),
    ).to.equal('unsupported');
  });
});
