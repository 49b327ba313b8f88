/** The manifest that an appliance will have: as it was wherever that still holds. */
import { DIGESTS, type Digest, type ManifestLine, manifestLine } from '../formats/ova/manifest.js';
import type { ContainedFile } from '../image/container.js';
import type { Appliance } from './appliance.js';

/** Where there is no manifest whose digests could be followed. */
const USUAL: Digest = 'SHA256';

export interface DraftOptions {
  /** What the files will be called. */
  readonly names: { readonly descriptor: string; readonly files: readonly string[] };
  /** The descriptor will have other bytes. */
  readonly changed: boolean;
  readonly digest?: Digest | undefined;
  readonly withManifest: boolean;
  /** Told what is wrong. May throw. */
  readonly complain: (problem: string) => void;
}

interface Line {
  /** As the manifest has it now, if it does. */
  readonly old: ManifestLine | undefined;
  readonly digest: Digest;
  readonly name: string;
  hex: string | undefined;
}

/** Its length is known before its digests are, so that it can have its place in an archive before the files. */
export class ManifestDraft {
  /** Undefined where there will be no manifest. */
  readonly length: number | undefined;
  private readonly lines: readonly Line[];
  private wrong = false;

  constructor(
    private readonly appliance: Appliance,
    private readonly options: DraftOptions,
  ) {
    this.lines = this.plan();
    const has = appliance.manifest !== undefined || options.withManifest || options.digest !== undefined;
    this.length = has ? this.compose((line) => '0'.repeat(DIGESTS[line.digest] * 2)).length : undefined;
  }

  /** Not a byte differs, as far as is known now. */
  get asItWas(): boolean {
    const { manifest, descriptor } = this.appliance;
    if (manifest === undefined || this.wrong || this.options.changed) return false;
    if (this.options.names.descriptor !== descriptor.name) return false;
    return this.lines.length === manifest.lines.length && this.lines.every(({ old, digest }) => old?.digest === digest);
  }

  /** The files whose digests cannot be had without reading them. */
  unknown(): readonly ContainedFile[] {
    return this.appliance.files.filter(({ name }) =>
      this.lines.some((line) => line.name === name && line.hex === undefined && this.length !== undefined),
    );
  }

  /** Which digests are needed of a file: the one it has, to be compared, and the one it shall have. */
  digestsOf(name: string): readonly Digest[] {
    const own = this.lines.filter((line) => line.name === name);
    const needed = own.flatMap(({ old, digest }) => (old === undefined ? [digest] : [digest, old.digest]));
    return this.length === undefined ? [] : [...new Set(needed)];
  }

  /** Compares a file of the appliance with what the manifest says. */
  check(name: string, digestOf: (digest: Digest) => string | undefined): void {
    const old = this.appliance.manifest?.lines.find((line) => line.name === name);
    if (old === undefined || digestOf(old.digest) === old.hex) return;
    this.wrong = true;
    this.options.complain(`"${name}" is not what the manifest says: its ${old.digest} differs`);
  }

  put(name: string, hexOf: (digest: Digest) => string): void {
    for (const line of this.lines) if (line.name === name) line.hex = hexOf(line.digest);
  }

  text(): Buffer {
    return this.compose(({ hex, name }) => {
      if (hex === undefined) throw new Error(`the digest of ${name} is not known`);
      return hex;
    });
  }

  /** Lines of files that are there, in the order they had; then those of files that had none. */
  private plan(): readonly Line[] {
    const { manifest, descriptor } = this.appliance;
    const { names, digest: wanted, complain } = this.options;
    const { digest: usual = USUAL } = manifest?.lines[0] ?? {};
    const there = new Set([descriptor.name, ...names.files]);
    const now = (name: string): string => (name === descriptor.name ? names.descriptor : name);
    const lines: Line[] = [];
    for (const old of manifest?.lines ?? []) {
      if (!there.delete(old.name)) complain(`"${old.name}" is missing`);
      else {
        const digest = wanted ?? old.digest;
        const kept = digest === old.digest && old.name !== descriptor.name;
        lines.push({ old, digest, name: now(old.name), hex: kept ? old.hex : undefined });
      }
    }
    for (const name of there) {
      if (manifest !== undefined) complain(`"${name}" is not in the manifest`);
      lines.push({ old: undefined, digest: wanted ?? usual, name: now(name), hex: undefined });
    }
    return lines;
  }

  /** Lines that keep their name and kind of digest keep every byte but the digits. */
  private compose(hexOf: (line: Line) => string): Buffer {
    const { manifest } = this.appliance;
    const text = manifest?.bytes.toString('latin1') ?? '';
    let composed = '';
    for (const line of this.lines) {
      const { old, digest, name } = line;
      const hex = hexOf(line);
      if (old === undefined || old.digest !== digest || old.name !== name) {
        if (composed !== '' && !composed.endsWith('\n')) composed += '\n';
        composed += Buffer.from(manifestLine(digest, name, hex)).toString('latin1');
        continue;
      }
      const { start, end } = spanOf(manifest?.lines ?? [], old, text);
      const digits = text.slice(old.at, old.at + hex.length);
      // Upper case stays where nothing else has changed.
      const kept = digits.toLowerCase() === hex ? digits : hex;
      composed += text.slice(start, old.at) + kept + text.slice(old.at + hex.length, end);
    }
    return Buffer.from(composed, 'latin1');
  }
}

/** The text of a line, with the empty ones behind it. */
function spanOf(lines: readonly ManifestLine[], line: ManifestLine, text: string): { start: number; end: number } {
  const n = lines.indexOf(line);
  const startOf = ({ at }: ManifestLine): number => text.lastIndexOf('\n', at) + 1;
  const next = lines[n + 1];
  return { start: n === 0 ? 0 : startOf(line), end: next === undefined ? text.length : startOf(next) };
}
