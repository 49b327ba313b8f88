/**
 * Why something could not be done. The list is closed: callers switch on it, exit codes and errno follow from it.
 *
 * - `corrupt`: the image contradicts its own format. `truncated`: it ends before a table it needs.
 * - `unsupported`: valid, but not something imgfs can read (yet). `limit`: larger than a documented limit.
 * - `refused`: policy says no (an outside reference, an ambiguous probe). `locked`: another process uses it.
 * - `missing`, `exists`, `permission`, `read-only`, `no-space`, `io`: what the host answered.
 * - `passphrase`: an encrypted image, and no passphrase or a wrong one.
 * - `busy`: in use by us or through us. `usage`: the command line is wrong. `system`: the machine lacks something.
 */
export type Reason =
  | 'corrupt'
  | 'truncated'
  | 'unsupported'
  | 'limit'
  | 'refused'
  | 'locked'
  | 'missing'
  | 'exists'
  | 'permission'
  | 'read-only'
  | 'no-space'
  | 'io'
  | 'passphrase'
  | 'busy'
  | 'usage'
  | 'system';

/** The form in which an error crosses a process or thread boundary. */
export interface ErrorRecord {
  readonly reason: Reason;
  readonly message: string;
  readonly hint?: string;
}

/** What marks an error as ours, whichever copy of this module made it: a thread may load one in a bundle and one beside it. */
const MARK = Symbol.for('imgfs.error');

/**
 * The one error class: every failure a user can cause or meet. `message` says what failed and why, `hint` what to do.
 * Anything else that is thrown is a bug in imgfs.
 */
export class ImgfsError extends Error {
  override readonly name = 'ImgfsError';
  readonly [MARK] = true;
  readonly reason: Reason;
  readonly hint: string | undefined;

  constructor(reason: Reason, message: string, options: { readonly hint?: string; readonly cause?: unknown } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.reason = reason;
    this.hint = options.hint;
  }

  static override [Symbol.hasInstance](value: unknown): boolean {
    return typeof value === 'object' && value !== null && MARK in value;
  }

  toJSON(): ErrorRecord {
    return { reason: this.reason, message: this.message, ...(this.hint === undefined ? {} : { hint: this.hint }) };
  }

  static fromJSON(record: ErrorRecord): ImgfsError {
    return new ImgfsError(record.reason, record.message, record.hint === undefined ? {} : { hint: record.hint });
  }
}

/** Shorthand for the error every parser throws. */
export function corrupt(message: string): ImgfsError {
  return new ImgfsError('corrupt', message);
}

/** The `code` of a Node system error (`ENOENT`), or undefined for anything else. */
export function systemCode(error: unknown): string | undefined {
  if (error instanceof Error && 'code' in error && typeof error.code === 'string') return error.code;
  return undefined;
}

const HOST_REASONS: Readonly<Record<string, Reason>> = {
  ENOENT: 'missing',
  ENOTDIR: 'missing',
  ENODEV: 'missing',
  ENXIO: 'missing',
  EACCES: 'permission',
  EPERM: 'permission',
  EROFS: 'read-only',
  ENOSPC: 'no-space',
  EDQUOT: 'no-space',
  EFBIG: 'no-space',
  EBUSY: 'busy',
};

const HOST_TEXTS: Readonly<Record<string, string>> = {
  ENOENT: 'no such file',
  ENOTDIR: 'not a directory',
  EISDIR: 'is a directory',
  EACCES: 'permission denied',
  EPERM: 'operation not permitted',
  EROFS: 'read-only file system',
  ENOSPC: 'no space left on device',
  EDQUOT: 'disk quota exceeded',
  EIO: 'input/output error',
  ELOOP: 'too many symbolic links',
  ENAMETOOLONG: 'name too long',
  EBUSY: 'in use',
  EMFILE: 'too many open files',
  ENODEV: 'no such device',
  ENXIO: 'no such device',
};

/** Wraps what the host answered (`doing: why`); an ImgfsError passes unchanged, and so does a bug. */
export function hostError(doing: string, error: unknown): unknown {
  const code = systemCode(error);
  if (error instanceof ImgfsError || code === undefined) return error;
  const why = HOST_TEXTS[code] ?? (error instanceof Error ? error.message : code);
  return new ImgfsError(HOST_REASONS[code] ?? 'io', `${doing}: ${why}`, { cause: error });
}

/** Text safe for a terminal: control characters and line breaks from names in images become `\xNN`. */
export function printable(text: string): string {
  return text.replace(
    /[\u0000-\u001f\u007f-\u009f\u2028\u2029\u202a-\u202e\u2066-\u2069]/g,
    (character) => `\\x${character.codePointAt(0)?.toString(16).padStart(2, '0')}`,
  );
}

/** The one line a user sees: `imgfs: what: why: what to do`. */
export function errorLine(error: unknown): string {
  if (error instanceof ImgfsError) {
    return printable(`imgfs: ${error.message}${error.hint === undefined ? '' : `: ${error.hint}`}`);
  }
  return printable(`imgfs: internal error: ${error instanceof Error ? error.message : String(error)}`);
}
