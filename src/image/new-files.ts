/**
 * The files of an image that is being made. They have no name until all of them are complete and durable: whatever
 * ends the program before that, the host looks as if it had never run. Only a block device is written where it is.
 */
import fs from 'node:fs';
import { basename, dirname, resolve } from 'node:path';
import { hostError, ImgfsError, systemCode } from '../lib/errors.js';
import { fileStorage } from '../storage/direct.js';
import type { Storage } from '../storage/storage.js';
import { type HostFile, HostFiles, READ_ONLY } from './files.js';
import type { Format } from './format.js';
import { DEFAULT_LIMITS } from './limits.js';
import { BlankDevice, UnnamedFile } from './new-file.js';
import { identify } from './probe.js';
import { unopenedImage, unopenedStorage } from './unopened.js';

const MAX_LINKS = 40;

export interface NewFilesOptions {
  readonly formats: readonly Format[];
  /** Told of every write: bytes written so far, all files together. Not where much is written. */
  readonly told?: (bytes: number) => void;
  /**
   * Much will be written before anything has a name: files without one are flushed once, before they get theirs, and
   * not before. A file that has other names too is not replaced: those would go on showing the old one.
   */
  readonly filled?: boolean;
}

/** Ends with `appear` or `discard`; until then what is there already stays as it is, locked as by a writer. */
export class NewFiles {
  /** The image itself, empty. */
  readonly storage: Storage;
  /** The path with links resolved: what is replaced is the file behind a link, never the link. */
  readonly path: string;
  /** Its last part. */
  readonly fileName: string;
  private readonly host = new HostFiles('no-writers', () => {});
  private readonly old: HostFile | undefined;
  private readonly unnamed: UnnamedFile[] = [];
  /** What is held open: the files to be replaced. */
  private readonly held: Storage[] = [];
  private written = 0;

  /** Throws `locked` for an image in use, `refused` for what can be no image, and what the host answers. */
  constructor(
    private readonly given: string,
    private readonly options: NewFilesOptions,
  ) {
    this.path = followed(given);
    this.fileName = basename(this.path);
    try {
      this.old = this.existing(this.path, given);
      this.storage = this.old?.device === true ? this.device(this.old) : this.add(this.path, given, this.old);
    } catch (error) {
      this.discard();
      throw error;
    }
  }

  /**
   * Another file of the image, by the name the image stores for it. Throws `exists` where such a file is there that
   * is no part of the image to be replaced: nobody has said that it may go.
   */
  makeStorage(name: string): Storage {
    if (this.old?.device === true) {
      throw new ImgfsError('unsupported', `${this.given} is a block device: "${name}" cannot lie beside it`);
    }
    const path = followed(resolve(dirname(this.path), name));
    if ([this.path, ...this.unnamed.map((file) => file.path)].includes(path)) {
      throw new ImgfsError('refused', `${this.given} names "${name}" as a part of itself`);
    }
    const there = fs.lstatSync(path, { throwIfNoEntry: false }) !== undefined;
    if (there && !this.isPart(path)) {
      throw new ImgfsError('exists', `${path} is there already and no part of ${this.given}`, {
        hint: 'remove it, or choose another name',
      });
    }
    return this.add(path, path, there ? this.existing(path, path) : undefined);
  }

  /**
   * Gives every file its name, durably, the image's own last: whoever finds that finds the others. Everything written
   * to them must be durable, but where they are to be filled.
   */
  appear(): void {
    const [image, ...others] = this.unnamed;
    try {
      if (this.options.filled === true) for (const file of this.unnamed) file.flush();
      appearTogether(others);
      appearTogether(image === undefined ? [] : [image]);
    } finally {
      this.discard();
    }
  }

  /** Makes all of it durable, and has the host read it from the medium when it is read next. */
  settle(): void {
    for (const file of this.unnamed) {
      file.flush();
      file.forget();
    }
  }

  /** What has no name yet is gone. */
  discard(): void {
    for (const file of this.unnamed.splice(0)) file.close();
    for (const storage of this.held.splice(0)) storage.close();
  }

  private existing(path: string, name: string): HostFile | undefined {
    if (fs.lstatSync(path, { throwIfNoEntry: false }) === undefined) return undefined;
    const file = this.host.open(name, { ...READ_ONLY, writable: true });
    this.held.push(this.host.storage(file));
    if (this.options.filled === true && !file.device && fs.fstatSync(file.fd).nlink > 1) {
      throw new ImgfsError('refused', `${name} has other names, which would go on showing the old file`, {
        hint: 'remove it first, or write into it with -n',
      });
    }
    return file;
  }

  private add(path: string, name: string, old: HostFile | undefined): Storage {
    const file = new UnnamedFile(path, name, old);
    this.unnamed.push(file);
    return this.options.filled === true ? file.filled() : file.storage((bytes) => this.tell(bytes));
  }

  private device(file: HostFile): Storage {
    return new BlankDevice(file, (bytes) => this.tell(bytes));
  }

  private tell(bytes: number): void {
    this.written += bytes;
    this.options.told?.(this.written);
  }

  /** Whether the image that is being replaced keeps its data in that file. */
  private isPart(path: string): boolean {
    if (this.old === undefined) return false;
    const directory = dirname(this.path);
    return partsOf(this.old, directory, this.options.formats).some((name) => resolve(directory, name) === path);
  }
}

/** The files, beside backing images, that an image names: as far as it can be read. */
function partsOf(file: HostFile, directory: string, formats: readonly Format[]): readonly string[] {
  const names: string[] = [];
  const opened: number[] = [];
  try {
    // Closing the image must not close the file, whose lock is still needed.
    const storage = fileStorage(file);
    const format = identify({ storage, formats, device: false });
    const image = format.open(storage, {
      writable: false,
      limits: DEFAULT_LIMITS,
      openStorage(reference) {
        names.push(reference.name);
        const path = resolve(directory, reference.name);
        if (fs.lstatSync(path, { throwIfNoEntry: false })?.isFile() !== true) return unopenedStorage(reference);
        const fd = fs.openSync(path, fs.constants.O_RDONLY + fs.constants.O_NONBLOCK);
        opened.push(fd);
        return fileStorage({ fd, name: path, size: fs.fstatSync(fd).size, writable: false });
      },
      openImage: unopenedImage,
    });
    image.close();
  } catch (error) {
    if (!(error instanceof ImgfsError) && systemCode(error) === undefined) throw error;
  } finally {
    for (const fd of opened) fs.closeSync(fd);
  }
  return names;
}

/** The path behind symbolic links, the last of which may lead to a file that is not there yet. */
function followed(given: string): string {
  let path = given;
  try {
    for (let links = 0; ; links++) {
      path = resolve(fs.realpathSync(dirname(path)), basename(path));
      if (fs.lstatSync(path, { throwIfNoEntry: false })?.isSymbolicLink() !== true) return path;
      if (links === MAX_LINKS) throw new ImgfsError('io', `cannot make ${given}: too many symbolic links`);
      path = resolve(dirname(path), fs.readlinkSync(path));
    }
  } catch (error) {
    throw hostError(`cannot make ${given}`, error);
  }
}

function appearTogether(files: readonly UnnamedFile[]): void {
  for (const file of files) file.appear();
  for (const directory of new Set(files.map(({ path }) => dirname(path)))) syncDirectory(directory);
}

/** Returns when names in the directory are durable. */
export function syncDirectory(path: string): void {
  const fd = fs.openSync(path, fs.constants.O_RDONLY);
  try {
    fs.fsyncSync(fd);
  } catch (error) {
    // Some file systems have no such thing.
    if (systemCode(error) !== 'EINVAL') throw hostError(`cannot flush ${path}`, error);
  } finally {
    fs.closeSync(fd);
  }
}
