import { ImgfsError } from '../lib/errors.js';

const SUFFIXES = 'bkmgtpe';

/**
 * A number of bytes as the user wrote it: decimal, or hexadecimal with 0x; with b, k, M, G, T, P or E (either case) in
 * units of 1024, then with a fraction too. `what` names it in the error. Throws `usage`.
 */
export function parseSize(text: string, what: string): number {
  const parts = /^\+?(?:(0x[0-9a-f]+)|(\d+)(\.\d*)?([bkmgtpe])?)$/i.exec(text.trim());
  if (parts === null) throw wrong(text, what);
  const [, hexadecimal, whole = '', fraction = '', suffix = ''] = parts;
  if (hexadecimal !== undefined) return exact(Number(hexadecimal), text, what);
  const unit = 1024 ** Math.max(0, SUFFIXES.indexOf(suffix.toLowerCase() || 'b'));
  const part = fraction.length > 1 ? Number(fraction) : 0;
  if (part !== 0 && unit === 1) throw wrong(text, what);
  return exact(Number(whole) * unit + Math.floor(part * unit), text, what);
}

function exact(value: number, text: string, what: string): number {
  if (Number.isSafeInteger(value)) return value;
  throw new ImgfsError('usage', `${what} "${text}" is too large`, { hint: 'the most is 2^53-1 bytes (just below 8P)' });
}

function wrong(text: string, what: string): ImgfsError {
  return new ImgfsError('usage', `${what} "${text}" is no size`, {
    hint: 'a number of bytes, or one with k, M, G, T, P or E',
  });
}
