/** Snapshots of an image in a live mount, managed as its users would: by the files in `snapshots/`. */
import fs from 'node:fs';
import { join } from 'node:path';
import type { InfoDocument, SnapshotDocument } from '../image/describe.js';
import { pickSnapshot } from '../image/named-snapshot.js';
import { hostError, ImgfsError, systemCode } from '../lib/errors.js';
import { libc } from '../lib/libc.js';
import { APPLY, escapeName, snapshotStems } from '../tree/names.js';

/** All methods throw ImgfsError. What was done is durable. */
export class LiveSnapshots {
  /** `home` is the image's directory in the mount. */
  constructor(private readonly home: string) {}

  list(): readonly SnapshotDocument[] {
    const text = this.asked('cannot list', () => fs.readFileSync(join(this.home, 'info.json'), 'utf8'));
    return (JSON.parse(text) as InfoDocument).snapshots ?? [];
  }

  create(name: string): void {
    const { O_CREAT, O_EXCL, O_RDONLY } = fs.constants;
    this.asked('cannot add to', () => fs.closeSync(fs.openSync(this.newFile(name), O_RDONLY + O_CREAT + O_EXCL)));
  }

  delete(wanted: string): void {
    this.asked('cannot delete one of', () => fs.unlinkSync(this.fileOf(wanted, 'name')));
  }

  /** Makes the disk what it was then. Throws `busy` while somebody has it open. */
  apply(wanted: string): void {
    const { id } = pickSnapshot(this.list(), wanted, { first: 'id', of: this.home });
    const disk = join(this.home, 'disk.raw');
    const calls = libc();
    if (calls === undefined) throw new ImgfsError('system', 'a mount cannot be told: the FFI (koffi) cannot be loaded');
    try {
      calls.setExtended(disk, APPLY, Buffer.from(id));
    } catch (error) {
      const whose = `cannot apply a snapshot to ${disk}`;
      const code = systemCode(error);
      if (code === 'EBUSY') throw new ImgfsError('busy', `${whose}: it is open`, { cause: error });
      if (code !== 'EOPNOTSUPP') throw hostError(whose, error);
      throw new ImgfsError('unsupported', `${whose}: this mount cannot show a disk of another size`, {
        hint: 'end it with imgfs umount',
      });
    }
  }

  rename(wanted: string, name: string): void {
    const [from, to] = [this.fileOf(wanted, 'id'), this.newFile(name)];
    if (from === to) return;
    if (fs.existsSync(to)) throw new ImgfsError('exists', `${this.home} has a snapshot "${name}" already`);
    this.asked('cannot rename one of', () => fs.renameSync(from, to));
  }

  private newFile(name: string): string {
    return join(this.home, 'snapshots', `${escapeName(Buffer.from(name))}.raw`);
  }

  private fileOf(wanted: string, first: 'id' | 'name'): string {
    const all = this.list();
    const chosen = pickSnapshot(all, wanted, { first, of: this.home });
    const stem = snapshotStems(all.map(bytesOf))[all.indexOf(chosen)] ?? '';
    return join(this.home, 'snapshots', `${stem}.raw`);
  }

  private asked<T>(doing: string, action: () => T): T {
    try {
      return action();
    } catch (error) {
      const whose = `${doing} the snapshots of ${this.home}`;
      if (systemCode(error) === 'EEXIST') throw new ImgfsError('exists', `${whose}: there is one of that name`);
      if (systemCode(error) === 'EBUSY') throw new ImgfsError('busy', `${whose}: it is open`, { cause: error });
      throw hostError(whose, error);
    }
  }
}

function bytesOf(snapshot: SnapshotDocument): Uint8Array {
  const bytes = snapshot['name-bytes'];
  return bytes === undefined ? Buffer.from(snapshot.name) : Buffer.from(bytes, 'hex');
}
