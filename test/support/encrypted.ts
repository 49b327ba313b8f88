/** Encrypted images of QEMU's, and ours, opened with the same passphrase. */
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import { formats } from '../../src/formats/index.js';
import type { Image } from '../../src/image/image.js';
import { openImage } from '../../src/image/open.js';

export const PASSPHRASE = 'an open sesame';

/** A file that holds it, without a newline, as QEMU wants it. */
export function passwordFile(path: string, passphrase: string | Buffer = PASSPHRASE): string {
  fs.writeFileSync(path, passphrase, { mode: 0o600 });
  return path;
}

/** Opens an image with a passphrase, for writing where asked. */
export function openEncrypted(path: string, { write = false, passphrase = PASSPHRASE, format = '' } = {}): Image {
  return openImage(path, {
    formats,
    format: format === '' ? undefined : format,
    references: { follow: true, allowed: [] },
    forceShare: false,
    warn: () => {},
    passphrases: { of: () => Buffer.from(passphrase) },
    write: write ? { references: false, direct: false, unsafe: false, threads: false } : undefined,
  }).image;
}

/** QEMU's tools on encrypted images. `kind` is the driver; `secret` the file of the passphrase. */
export class EncryptedQemu {
  constructor(
    private readonly driver: 'luks' | 'qcow2' | 'qcow',
    private readonly secret: string,
  ) {}

  /** `qemu-img create`. Its measurement of the time that a guess takes fails now and then, on a busy machine. */
  create(path: string, options: string, size: number, ...more: readonly string[]): void {
    const args = ['create', '-q', '-f', this.driver, ...this.object, '-o', options, ...more, path, String(size)];
    for (let trial = 1; ; trial++) {
      const { status, stderr } = spawnSync('qemu-img', args, { encoding: 'utf8' });
      if (status === 0) return;
      if (trial === 50 || !/CPU usage/.test(stderr)) throw new Error(stderr);
    }
  }

  io(path: string, ...commands: readonly string[]): void {
    const asked = commands.flatMap((command) => ['-c', command]);
    const { stdout, stderr, status } = spawnSync(
      'qemu-io',
      [...this.object, ...asked, '--image-opts', this.opts(path)],
      {
        encoding: 'utf8',
      },
    );
    if (status !== 0 || /failed|error/i.test(stdout + stderr)) throw new Error(stdout + stderr);
  }

  /** The guest's bytes. */
  bytes(path: string, ...more: readonly string[]): Buffer {
    const raw = `${path}.plain`;
    const args = ['convert', ...this.object, ...more, '--image-opts', this.opts(path), '-O', 'raw', raw];
    const { status, stderr } = spawnSync('qemu-img', args, { encoding: 'utf8' });
    if (status !== 0) throw new Error(stderr);
    const bytes = fs.readFileSync(raw);
    fs.rmSync(raw);
    return bytes;
  }

  /** `qemu-img check`: nothing wrong and nothing leaked. */
  expectClean(path: string): void {
    const args = ['check', ...this.object, '--image-opts', this.opts(path)];
    const { status, stdout, stderr } = spawnSync('qemu-img', args, { encoding: 'utf8' });
    if (status !== 0) throw new Error(stdout + stderr);
  }

  private get object(): readonly string[] {
    return ['--object', `secret,id=s,file=${this.secret}`];
  }

  private opts(path: string): string {
    const key = this.driver === 'luks' ? 'key-secret' : 'encrypt.key-secret';
    return `driver=${this.driver},file.filename=${path},${key}=s`;
  }
}
