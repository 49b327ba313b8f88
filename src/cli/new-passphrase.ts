/** The passphrase of an image that is made: qemu-img's way to say it, and ours. */
import type { OptionValue } from '../image/creation.js';
import { ImgfsError } from '../lib/errors.js';
import { readPassphrase, readSecret } from './passphrases.js';
import { promptPassphrase } from './prompt.js';

interface Flags {
  readonly passwordFile?: readonly string[];
  readonly object?: readonly string[];
}

const KEY_SECRET = /(?:^|\.)key-secret$/;
const BASE64 = /^[A-Za-z0-9+/\s]*={0,2}\s*$/;

/** Read when it is asked for, at most once. Throws `usage` for what is contradictory, when it is made. */
export class NewPassphrase {
  private readonly source: () => Buffer;
  private bytes: Buffer | undefined;

  constructor(
    path: string,
    { passwordFile = [], object = [] }: Flags,
    values: ReadonlyMap<string, OptionValue>,
    /** The option that would have given it. */
    option = '--password-file',
  ) {
    const wanted = [...values].find(([name]) => KEY_SECRET.test(name))?.[1];
    const secrets = object.map(secretOf);
    const [file, ...more] = passwordFile;
    if (more.length > 0) throw new ImgfsError('usage', 'a new image has one passphrase: give one --password-file');
    if (wanted !== undefined) {
      if (file !== undefined)
        throw new ImgfsError('usage', 'give --password-file, or key-secret with --object, not both');
      const secret = secrets.find(({ id }) => id === wanted);
      if (secret === undefined) {
        throw new ImgfsError('usage', `no --object secret has the id "${wanted}"`, {
          hint: `add --object secret,id=${wanted},file=FILE`,
        });
      }
      this.source = () => secret.read();
    } else if (file !== undefined) this.source = () => readPassphrase(file);
    else this.source = () => typedTwice(path, option);
  }

  read(): Uint8Array {
    this.bytes ??= this.source();
    return this.bytes;
  }

  wipe(): void {
    this.bytes?.fill(0);
  }
}

/** `secret,id=ID,file=FILE[,format=raw|base64]`. */
function secretOf(text: string): { readonly id: string; read(): Buffer } {
  const [kind, ...items] = text.replaceAll(',,', '\0').split(',');
  const given = new Map(items.map((item) => splitOnce(item.replaceAll('\0', ','))));
  const [id, file, format = 'raw'] = [given.get('id'), given.get('file'), given.get('format')];
  if (given.has('data')) {
    throw new ImgfsError('refused', 'a secret on the command line is none: everybody can read it there', {
      hint: 'put it in a file: --object secret,id=ID,file=FILE',
    });
  }
  const known = [...given.keys()].every((name) => ['id', 'file', 'format', 'qom-type'].includes(name));
  if (kind !== 'secret' || id === undefined || file === undefined || !known || !['raw', 'base64'].includes(format)) {
    throw new ImgfsError('usage', '--object is secret,id=ID,file=FILE[,format=raw|base64]');
  }
  return { id, read: () => (format === 'raw' ? readSecret(file) : decoded(readSecret(file), file)) };
}

function splitOnce(item: string): readonly [string, string] {
  const at = item.indexOf('=');
  return at < 0 ? [item, ''] : [item.slice(0, at), item.slice(at + 1)];
}

/** Base64 is text, and as text it passes through a string: whoever stores it so has it readable anyway. */
function decoded(text: Buffer, file: string): Buffer {
  const written = text.toString('latin1');
  text.fill(0);
  if (!BASE64.test(written)) throw new ImgfsError('usage', `${file} is not base64`);
  return Buffer.from(written, 'base64');
}

function typedTwice(path: string, option: string): Buffer {
  const first = promptPassphrase(`New passphrase of ${path}: `);
  if (first === undefined) {
    throw new ImgfsError('passphrase', `${path} shall be encrypted, and no passphrase was given`, {
      hint: `add ${option} FILE`,
    });
  }
  const second = promptPassphrase('The same again: ');
  const same = second !== undefined && first.equals(second);
  second?.fill(0);
  if (first.length > 0 && same) return first;
  first.fill(0);
  throw new ImgfsError('passphrase', first.length === 0 ? 'an empty passphrase is none' : 'two different passphrases');
}
