/** The files of a package that is being written: none has its name before all are complete and durable. */
import fs from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { type HostFile, HostFiles, identityOf, READ_ONLY } from '../image/files.js';
import { UnnamedFile } from '../image/new-file.js';
import { syncDirectory } from '../image/new-files.js';
import { hostError, ImgfsError, systemCode } from '../lib/errors.js';
import type { Storage } from '../storage/storage.js';

export interface NewPackageOptions {
  /** Files that are there are replaced. */
  readonly overwrite: boolean;
  /** Files that are open to be read, and may be what is replaced. */
  readonly sources: readonly HostFile[];
}

/** Ends with `appear` or `discard`. Files to be replaced stay as they are until then, locked as by a writer. */
export class NewPackage {
  private readonly files: UnnamedFile[] = [];
  private readonly host = new HostFiles('no-writers', () => {});
  private readonly held: Storage[] = [];
  /** A directory that was made for them. */
  private madeDirectory: string | undefined;

  constructor(private readonly options: NewPackageOptions) {}

  /** Makes the directory where it is not there. */
  directory(path: string): void {
    try {
      if (fs.statSync(path, { throwIfNoEntry: false }) !== undefined) return;
      fs.mkdirSync(path);
      this.madeDirectory = path;
    } catch (error) {
      throw hostError(`cannot make the directory ${path}`, error);
    }
  }

  /** A new file, empty. Throws `exists` for one that is there and may not be replaced, `locked` for one in use. */
  add(name: string): Storage {
    const path = this.resolved(name);
    const file = new UnnamedFile(path, name, this.replaced(path, name));
    this.files.push(file);
    return file.filled();
  }

  /** Makes all durable, then gives each its name, in the order in which they were added but the first, which is last. */
  appear(): void {
    try {
      for (const file of this.files) file.flush();
      const [first, ...others] = this.files;
      for (const file of [...others, ...(first === undefined ? [] : [first])]) {
        file.appear();
        syncDirectory(dirname(file.path));
      }
      this.madeDirectory = undefined;
    } finally {
      this.discard();
    }
  }

  discard(): void {
    for (const file of this.files.splice(0)) file.close();
    for (const storage of this.held.splice(0)) storage.close();
    if (this.madeDirectory === undefined) return;
    try {
      fs.rmdirSync(this.madeDirectory);
    } catch (error) {
      // Somebody has put something there meanwhile.
      if (systemCode(error) === undefined) throw error;
    }
    this.madeDirectory = undefined;
  }

  private resolved(name: string): string {
    try {
      return join(fs.realpathSync(dirname(resolve(name))), name.slice(name.lastIndexOf('/') + 1));
    } catch (error) {
      throw hostError(`cannot make ${name}`, error);
    }
  }

  private replaced(path: string, name: string): HostFile | undefined {
    const there = fs.lstatSync(path, { throwIfNoEntry: false });
    if (there === undefined) return undefined;
    if (!there.isFile()) throw new ImgfsError('refused', `${name} is there, and is no regular file`);
    const identity = identityOf(path);
    if (this.files.some((file) => file.path === path)) throw new ImgfsError('refused', `${name} would be made twice`);
    const source = this.options.sources.find((one) => one.identity === identity);
    if (!this.options.overwrite) {
      throw new ImgfsError('exists', `${name} is there already`, { hint: 'use --overwrite, or another name' });
    }
    if (source !== undefined) return source;
    const file = this.host.open(name, { ...READ_ONLY, writable: true });
    this.held.push(this.host.storage(file));
    return file;
  }
}
