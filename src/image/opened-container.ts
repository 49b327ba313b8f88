import { ImgfsError } from '../lib/errors.js';
import type { Storage } from '../storage/storage.js';
import type { ContainedDisk, ContainedFile, Container } from './container.js';
import type { HostFile, HostFiles } from './files.js';
import type { GatePolicy } from './gate.js';
import { memberFile, type PlacedMember, placeMember } from './members.js';
import type { OpenedImage } from './open.js';

export interface OpenedContainerParts {
  readonly file: HostFile;
  readonly storage: Storage;
  readonly format: string;
  readonly container: Container;
  readonly files: HostFiles;
  readonly policy: GatePolicy;
  /** Opens a file that is a disk by itself, on the way from the container's own. */
  readonly openFile: (file: HostFile, format: string | undefined, above: readonly HostFile[]) => OpenedImage;
  /** Opens a disk that lies within files. Takes over its storage. */
  readonly openPlaced: (file: HostFile, format: string | undefined, member: PlacedMember) => OpenedImage;
}

/** A container, open. What is opened from it stays open when it is closed. */
export class OpenedContainer {
  readonly file: HostFile;
  readonly format: string;
  readonly container: Container;

  constructor(private readonly parts: OpenedContainerParts) {
    this.file = parts.file;
    this.format = parts.format;
    this.container = parts.container;
  }

  /** The disk of that number, from 1. Throws `missing` for a number there is not, and what opening an image throws. */
  openDisk(n: number): OpenedImage {
    const { disks } = this.container;
    const disk = disks[n - 1];
    if (disk === undefined) {
      throw new ImgfsError('missing', `${this.file.name} has no disk ${n}`, {
        hint: disks.length === 0 ? 'it holds none' : `they are 1 to ${disks.length}`,
      });
    }
    const { file, files, policy, openFile, openPlaced } = this.parts;
    if (disk.missing !== undefined) {
      throw new ImgfsError('missing', `${file.name} names "${disk.missing}", which is not there`);
    }
    const beside = soleReference(disk);
    if (beside !== undefined) return openFile(memberFile(beside, file, files, policy), disk.format, [file]);
    return openPlaced(file, disk.format, placeMember(disk, file, files, policy));
  }

  /** The bytes of a file as they are stored. The caller closes it. Throws `missing` where it is not there. */
  openFile(file: ContainedFile): Storage {
    return placeMember({ ...file, packed: undefined }, this.file, this.parts.files, this.parts.policy).storage;
  }

  close(): void {
    this.parts.storage.close();
  }
}

/** The name of the file that a disk is all of. */
function soleReference({ parts, packed }: ContainedDisk): string | undefined {
  const [only, ...others] = parts;
  return others.length === 0 && packed === undefined ? only?.reference?.name : undefined;
}
