/** The manifest of an appliance: a digest of each of its files. */
import { corrupt, ImgfsError } from '../../lib/errors.js';

/** Longer than any for as many files as an appliance may have. */
export const MOST_MANIFEST = 1024 * 1024;

/** As the manifest writes them. */
export const DIGESTS = { SHA1: 20, SHA256: 32, SHA512: 64 } as const;
export type Digest = keyof typeof DIGESTS;

/** A line of a manifest. */
export interface ManifestLine {
  readonly digest: Digest;
  readonly name: string;
  /** Lower case. */
  readonly hex: string;
  /** Where in the text the digits begin. */
  readonly at: number;
}

/** Parses a manifest. Throws `corrupt`, and `unsupported` for digests that imgfs does not know. */
export function parseManifest(bytes: Buffer, name: string): readonly ManifestLine[] {
  if (bytes.length > MOST_MANIFEST) throw new ImgfsError('limit', `${name} has ${bytes.length} bytes`);
  const text = bytes.toString('latin1');
  const lines: ManifestLine[] = [];
  const seen = new Set<string>();
  let start = 0;
  for (const line of text.split('\n')) {
    const at = start;
    start += line.length + 1;
    if (line.trim() === '') continue;
    const found = LINE.exec(line);
    const [, algorithm = '', rawName = '', digits = ''] = found ?? [];
    if (found === null) throw corrupt(`${name}: line ${text.slice(0, at).split('\n').length} is malformed`);
    const digest = algorithm.toUpperCase().replace('-', '');
    if (!isDigest(digest)) throw new ImgfsError('unsupported', `${name} has digests of the kind ${algorithm}`);
    if (digits.length !== DIGESTS[digest] * 2) throw corrupt(`${name}: a ${digest} has another length`);
    const file = Buffer.from(rawName, 'latin1').toString('utf8');
    if (seen.has(file)) throw corrupt(`${name} names "${file}" twice`);
    seen.add(file);
    lines.push({ digest, name: file, hex: digits.toLowerCase(), at: at + line.lastIndexOf(digits) });
  }
  return lines;
}

const LINE = /^\s*(SHA-?\d+)\s*\((.+)\)\s*=\s*([0-9a-f]+)\s*$/i;

function isDigest(name: string): name is Digest {
  return name in DIGESTS;
}

/** The line for a file, as VMware's tools write it. */
export function manifestLine(digest: Digest, name: string, hex: string): string {
  return `${digest}(${name})= ${hex}\n`;
}
