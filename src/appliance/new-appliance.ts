/** An appliance made around a disk that is being filled. */
import { createHash } from 'node:crypto';
import { basename, dirname, join } from 'node:path';
import { describeMachine, type Machine } from '../formats/ova/machine.js';
import { DIGESTS, type Digest, manifestLine } from '../formats/ova/manifest.js';
import { ArchiveWriter } from '../formats/ova/write-tar.js';
import { OptionValues } from '../image/creation.js';
import { FilledImage, type WantedImage } from '../image/filled-image.js';
import type { Image } from '../image/image.js';
import { ImgfsError } from '../lib/errors.js';
import { randomBytes } from '../lib/random.js';
import type { Storage } from '../storage/storage.js';
import { digestOf, piecesOf } from './appliance.js';
import { NewPackage } from './new-package.js';
import { ADAPTER, CONTROLLER, CPUS, DIGEST, MEMORY, NAME, NETWORK, SYSTEM_TYPE } from './options.js';
import { checkSystemType, misfits, SATA_CONTROLLER } from './system-types.js';

const MIB = 1024 * 1024;
const USUAL_TYPE = 'vmx-10';
const MOST_CPUS = 768;

export interface WantedAppliance
  extends Pick<WantedImage, 'path' | 'size' | 'formats' | 'format' | 'references' | 'warn'> {
  /** Of `APPLIANCE`. */
  readonly values: OptionValues;
}

/**
 * A disk to be filled, as a file beside the archive that nobody can find. Then `finish` puts it into the archive, and
 * `appear` gives that its name; or `discard` ends it at any time.
 */
export class NewAppliance {
  readonly image: Image;
  private readonly disk: FilledImage;
  private readonly made: NewPackage;
  private readonly archive: Storage;
  private readonly machine: Omit<Machine, 'disk'>;

  /** Throws `usage` for values that no machine has, and what making files throws; nothing is left then. */
  constructor(private readonly wanted: WantedAppliance) {
    this.machine = machineOf(wanted);
    const { systemType, controller } = this.machine;
    const deviceTypes = new Set(controller === 'sata' ? [SATA_CONTROLLER] : []);
    for (const misfit of misfits(systemType, { deviceTypes })) wanted.warn(misfit);
    this.made = new NewPackage({ overwrite: true, sources: [] });
    // Its own name is never used: it only must not be that of a file.
    const path = join(dirname(wanted.path), `.${basename(wanted.path)}.${randomBytes(4).toString('hex')}`);
    const values = new OptionValues(new Map([['subformat', 'streamOptimized']]));
    try {
      this.archive = this.made.add(wanted.path);
      this.disk = new FilledImage({ ...wanted, path, values, backing: undefined });
    } catch (error) {
      this.made.discard();
      throw error;
    }
    this.image = this.disk.image;
  }

  /** Yields, often, how many bytes of the disk are in the archive. Throws ImgfsError. */
  *finish(): Generator<number> {
    const { wanted, machine } = this;
    const stem = basename(wanted.path)
      .replace(/\.ova$/i, '')
      .replace(/[^\w.+-]/g, '_');
    const capacity = this.image.size;
    const storage = this.disk.finish();
    const names = { descriptor: `${stem}.ovf`, manifest: `${stem}.mf`, disk: `${stem}-disk1.vmdk` };
    const disk = { href: names.disk, fileBytes: storage.size(), capacity };
    const text = Buffer.from(describeMachine({ ...machine, disk }));
    const digest = wanted.values.get(DIGEST).toUpperCase() as Digest;
    const manifest = (hex: string): Buffer =>
      Buffer.from(
        manifestLine(digest, names.descriptor, digestOf(digest, text)) + manifestLine(digest, names.disk, hex),
      );
    const { archive } = this;
    const writer = new ArchiveWriter(archive);
    archive.write(text, writer.add(names.descriptor, text.length));
    const manifestAt = writer.add(names.manifest, manifest('0'.repeat(DIGESTS[digest] * 2)).length);
    let at = writer.add(names.disk, disk.fileBytes);
    const hash = createHash(digest);
    let done = 0;
    for (const piece of piecesOf(storage)) {
      archive.write(piece, at);
      hash.update(piece);
      at += piece.length;
      done += piece.length;
      yield done;
    }
    archive.write(manifest(hash.digest('hex')), manifestAt);
    writer.end();
  }

  /** After `finish`: the disk as it went into the archive. The caller closes it. */
  reopened(): Image {
    return this.disk.reopened();
  }

  /** After `finish`. */
  appear(): void {
    try {
      this.made.appear();
    } finally {
      this.discard();
    }
  }

  discard(): void {
    this.disk.discard();
    this.made.discard();
  }
}

function machineOf({ path, values }: WantedAppliance): Omit<Machine, 'disk'> {
  const cpus = values.get(CPUS);
  if (cpus < 1 || cpus > MOST_CPUS) throw new ImgfsError('usage', `${cpus} processors are impossible`);
  const memory = values.get(MEMORY);
  if (memory < MIB || memory % MIB !== 0) {
    throw new ImgfsError('usage', `${memory} bytes of memory are impossible`, { hint: 'whole MiB, for example 2G' });
  }
  const systemType = values.get(SYSTEM_TYPE) ?? USUAL_TYPE;
  checkSystemType(systemType, false);
  const network = values.get(NETWORK);
  return {
    name: values.get(NAME) ?? basename(path).replace(/\.ova$/i, ''),
    systemType,
    cpus,
    mebibytes: memory / MIB,
    controller: values.get(CONTROLLER),
    network: network === undefined ? undefined : { name: network, adapter: values.get(ADAPTER) },
  };
}
