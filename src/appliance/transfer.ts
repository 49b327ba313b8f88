/** From one form of an appliance to another: archive or files, with another type of machine, with other digests. */
import { createHash, type Hash } from 'node:crypto';
import { dirname, join } from 'node:path';
import { withSystemType } from '../formats/ova/descriptor.js';
import type { Digest } from '../formats/ova/manifest.js';
import { ArchiveWriter } from '../formats/ova/write-tar.js';
import type { ContainedFile } from '../image/container.js';
import { ImgfsError } from '../lib/errors.js';
import { type Appliance, digestOf, piecesOf, sizesOf } from './appliance.js';
import { ManifestDraft } from './manifest-draft.js';
import { NewPackage } from './new-package.js';
import { sizeProblems } from './verify.js';

/** Where it goes: an archive, or files in a directory, or another descriptor, and manifest, of the same files. */
export type Destination =
  | { readonly kind: 'archive'; readonly path: string }
  | { readonly kind: 'files'; readonly directory: string; readonly descriptor: string | undefined }
  | { readonly kind: 'beside'; readonly descriptor: string };

export interface Transfer {
  readonly to: Destination;
  /** What every VirtualSystemType becomes. */
  readonly systemType?: string | undefined;
  /** What every digest becomes; by default each stays what it is. */
  readonly digest?: Digest | undefined;
  /** A manifest is made where there is none. */
  readonly withManifest: boolean;
  readonly overwrite: boolean;
  /** What is wrong with the appliance is only told. */
  readonly lax: boolean;
  readonly warn: (message: string) => void;
}

/**
 * Reads all, holds it against the manifest, and writes it. Yields, often, how far it has come, from 0 to 1. Nothing has
 * its name before the end; stopped earlier, nothing was ever there. Throws ImgfsError. The appliance stays its owner's.
 */
export function* transfer(appliance: Appliance, wanted: Transfer): Generator<number> {
  const sink = sinkFor(wanted.to, wanted, appliance);
  try {
    yield* fill(appliance, wanted, sink);
    sink.appear();
  } finally {
    sink.discard();
  }
}

function* fill(appliance: Appliance, wanted: Transfer, sink: Sink): Generator<number> {
  const { opened, descriptor } = appliance;
  const complain = (problem: string): void => {
    if (!wanted.lax) {
      throw new ImgfsError('corrupt', `${opened.file.name}: ${problem}`, { hint: 'go on all the same with --lax' });
    }
    wanted.warn(`${opened.file.name}: ${problem}`);
  };
  for (const problem of sizeProblems(appliance)) {
    if (problem.endsWith('is missing')) complain(problem);
    else wanted.warn(`${opened.file.name}: ${problem}`);
  }
  const text =
    wanted.systemType === undefined ? descriptor.bytes : withSystemType(descriptor.parsed, wanted.systemType);
  // That a file is missing has been told.
  const sizes = sizesOf(appliance, ({ reason }) => reason === 'missing');
  const names = { descriptor: sink.descriptorName, files: [...sizes.keys()] };
  const draft = new ManifestDraft(appliance, { ...wanted, names, changed: !text.equals(descriptor.bytes), complain });
  sink.write(sink.descriptorName, text.length).write(text, 0);
  const manifest = draft.length === undefined ? undefined : sink.write(sink.manifestName, draft.length);
  draft.check(descriptor.name, (digest) => digestOf(digest, descriptor.bytes));
  draft.put(sink.descriptorName, (digest) => digestOf(digest, text));
  addCertificate(appliance, draft, sink, wanted);
  const needed = sink.copies ? appliance.files : draft.unknown();
  const reading = needed.filter(({ name }) => sizes.has(name));
  const whole = Math.max(
    1,
    reading.reduce((sum, { name }) => sum + (sizes.get(name) ?? 0), 0),
  );
  let done = 0;
  for (const file of reading) {
    for (const part of copy(file, appliance, draft, sink)) {
      done += part;
      yield done / whole;
    }
  }
  manifest?.write(draft.text(), 0);
  sink.end();
}

/** Reads a file, to where it belongs if it is copied. Yields the bytes of each step. */
function* copy(file: ContainedFile, { opened }: Appliance, draft: ManifestDraft, sink: Sink): Generator<number> {
  const storage = opened.openFile(file);
  try {
    const target = sink.copies ? sink.write(file.name, storage.size()) : undefined;
    const hashes = new Map<Digest, Hash>(draft.digestsOf(file.name).map((digest) => [digest, createHash(digest)]));
    let at = 0;
    for (const piece of piecesOf(storage)) {
      target?.write(piece, at);
      for (const hash of hashes.values()) hash.update(piece);
      at += piece.length;
      yield piece.length;
    }
    const digests = new Map(Array.from(hashes, ([digest, hash]) => [digest, hash.digest('hex')]));
    draft.check(file.name, (digest) => digests.get(digest));
    draft.put(file.name, (digest) => digests.get(digest) ?? '');
  } finally {
    storage.close();
  }
}

/** It signs the manifest as it was. */
function addCertificate({ certificate, opened }: Appliance, draft: ManifestDraft, sink: Sink, wanted: Transfer): void {
  if (certificate === undefined) return;
  if (draft.asItWas && sink.copies) sink.write(certificate.name, certificate.bytes.length).write(certificate.bytes, 0);
  else if (!draft.asItWas) {
    const now = sink.copies ? 'is left out' : 'holds no longer';
    wanted.warn(`${opened.file.name}: ${certificate.name} signs the manifest as it was, and ${now}`);
  }
}

/** Writes at offsets of one file. */
interface NewFile {
  write(bytes: Uint8Array, at: number): void;
}

/** Where the files go. */
interface Sink {
  readonly descriptorName: string;
  readonly manifestName: string;
  /** Files but the descriptor and the manifest are written, too. */
  readonly copies: boolean;
  /** The next file, in its order. */
  write(name: string, size: number): NewFile;
  end(): void;
  appear(): void;
  discard(): void;
}

function sinkFor(to: Destination, { overwrite }: Transfer, appliance: Appliance): Sink {
  const { file } = appliance.opened;
  const own = appliance.descriptor.name;
  const made = new NewPackage({ overwrite, sources: [file] });
  const ends = { appear: () => made.appear(), discard: () => made.discard() };
  if (to.kind === 'archive') {
    const storage = made.add(to.path);
    const archive = new ArchiveWriter(storage);
    return {
      ...ends,
      descriptorName: own,
      manifestName: manifestOf(own),
      copies: true,
      write(name, size) {
        const start = archive.add(name, size);
        return { write: (bytes, at) => storage.write(bytes, start + at) };
      },
      end: () => archive.end(),
    };
  }
  const directory = to.kind === 'files' ? to.directory : dirname(file.name);
  const descriptorName = to.descriptor ?? own;
  if (to.kind === 'files') made.directory(directory);
  return {
    ...ends,
    descriptorName,
    manifestName: manifestOf(descriptorName),
    copies: to.kind === 'files',
    write: (name) => made.add(join(directory, name)),
    end() {},
  };
}

function manifestOf(descriptor: string): string {
  return `${descriptor.replace(/\.ovf$/i, '')}.mf`;
}
