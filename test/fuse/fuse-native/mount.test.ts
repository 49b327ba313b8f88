/** What mounts of the fuse-native adapter do beyond what all do. */
import { expect } from 'chai';
import { adapterMounts, FUSE_NATIVE, failure } from '../../support/adapter-mounts.js';
import { program } from '../../support/mounted.js';

describe('fuse-native mounts', function () {
  this.timeout(20_000);
  const mounts = adapterMounts(FUSE_NATIVE);

  it('reads in requests of 128 KiB', async () => {
    const mounted = await mounts.mount({ trace: true });
    await program(
      'dd',
      `if=${mounted.path}/big.raw`,
      'of=/dev/null',
      'bs=1M',
      'count=4',
      'iflag=direct',
      'status=none',
    );
    const reads = await mounted.logged(32, /^read /);
    expect(reads).to.have.length(32);
    expect(reads[1]).to.equal('read /big.raw 131072 131072 -> 131072');
  });

  it('ends at once after its own unmount', async () => {
    const mounted = await mounts.mount();
    const start = Date.now();
    expect(await mounted.unmount(false)).to.equal('ok');
    expect(await mounted.exited).to.equal(0);
    expect(Date.now() - start).to.be.below(500);
  });

  it('says what is wrong when nothing can be mounted', async () => {
    const long = `${mounts.mountpoint()}/${'x'.repeat(200)}/`.repeat(6);
    const failed = await failure(mounts.mount({ mountpoint: long }));
    expect(failed).to.match(/^imgfs: the mountpoint's path is longer than 1023 bytes: /);
  });
});
