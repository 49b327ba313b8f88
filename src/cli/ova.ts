import { basename, dirname, extname, resolve } from 'node:path';
import { Appliance } from '../appliance/appliance.js';
import { checkSystemType, misfits } from '../appliance/system-types.js';
import { type Destination, transfer } from '../appliance/transfer.js';
import { type Verification, verify } from '../appliance/verify.js';
import { formats } from '../formats/index.js';
import type { Digest } from '../formats/ova/manifest.js';
import { openContainer, openImage } from '../image/open.js';
import type { OpenedContainer } from '../image/opened-container.js';
import { ImgfsError, printable } from '../lib/errors.js';
import { jsonText } from '../lib/json-text.js';
import { endAs, Interrupted, interruptible } from './interruptible.js';
import { declareJsonOptions, type JsonFlags, wantsJson } from './json-option.js';
import { assertNotMounted } from './mounted-hint.js';
import { collected } from './open-options.js';
import { note, print, warn } from './output.js';
import { declareProgress, type ProgressFlags, ProgressLine, showing } from './progress.js';
import { OWN_CODES, type Verb } from './verb.js';

interface OvaFlags extends JsonFlags, ProgressFlags {
  readonly systemType?: string;
  readonly sha?: Digest;
  readonly overwrite?: true;
  readonly lax?: true;
  readonly allowRefs?: readonly string[];
}

const ABOUT =
  'unpack ARCHIVE [DIR|FILE.ovf]: its files, here or there. pack FILE.ovf ARCHIVE: the descriptor first, then the manifest ' +
  '(made where there is none), then the files in the order in which it names them. verify FILE: every file against the ' +
  'manifest. retarget FILE [TARGET]: another type of machine, by itself in FILE, or in TARGET of either form. Files are ' +
  'held against the manifest while they are copied; the manifest changes where it must. Nothing has its name before all ' +
  'is complete and durable.';

const ACTIONS = { unpack, pack, verify: verifyFile, retarget } as const;

/** `imgfs ova`: appliances, as archives and as files. */
export const verb: Verb = {
  exitCodes: OWN_CODES,
  declare(command) {
    command
      .description(`${command.description()} ${ABOUT}`)
      .argument('<action>', Object.keys(ACTIONS).join(', '))
      .argument('<file>', 'the archive (.ova) or descriptor (.ovf)')
      .argument('[target]', 'where it goes')
      .option('--system-type <type>', 'the type of machine that it shall ask for, such as vmx-07')
      .option(
        '--sha <digest>',
        'the digests of the manifest: sha1, sha256 or sha512, instead of those it has',
        digestNamed,
      )
      .option('--overwrite', 'replace files that are there')
      .option(
        '--lax',
        'go on where the appliance is not what its manifest says, with a warning; the manifest is corrected',
      )
      .option(
        '--allow-refs <dir>',
        'let a descriptor name files that lead into this directory too (repeatable)',
        collected,
      );
    declareProgress(command);
    command.option('-q, --quiet', 'show no progress, and of verify only what is wrong');
    declareJsonOptions(command);
  },
  async run(command) {
    const flags = command.opts<OvaFlags>();
    const [name = '', path = '', target] = command.args;
    const action = Object.entries(ACTIONS).find(([one]) => one === name)?.[1];
    if (action === undefined) {
      throw new ImgfsError('usage', `"${name}" is no action`, { hint: Object.keys(ACTIONS).join(', ') });
    }
    if (flags.systemType !== undefined) checkSystemType(flags.systemType, flags.lax === true);
    const opened = openAppliance(path, flags);
    try {
      return await action({ opened, path, target, flags });
    } catch (error) {
      if (error instanceof Interrupted) endAs(error);
      throw error;
    } finally {
      opened.close();
    }
  },
};

interface Job {
  readonly opened: OpenedContainer;
  readonly path: string;
  readonly target: string | undefined;
  readonly flags: OvaFlags;
}

async function unpack(job: Job): Promise<number> {
  const { path, target = '.' } = job;
  assertForm(job, 'ova');
  if (isNamed(target, '.ova')) throw new ImgfsError('usage', `${target} is no directory to unpack ${path} into`);
  return await moved(job, filesAt(target), false);
}

async function pack(job: Job): Promise<number> {
  const { target } = job;
  assertForm(job, 'ovf');
  if (target === undefined) throw new ImgfsError('usage', 'name the archive last: imgfs ova pack FILE.ovf ARCHIVE');
  return await moved(job, { kind: 'archive', path: target }, true);
}

async function retarget(job: Job): Promise<number> {
  const { opened, path, target = path, flags } = job;
  if (flags.systemType === undefined) {
    throw new ImgfsError('usage', 'retarget needs a type of machine', { hint: 'for example --system-type vmx-07' });
  }
  const itself = resolve(target) === resolve(path);
  const overwriting = { ...job, flags: { ...flags, ...(itself ? { overwrite: true as const } : {}) } };
  if (itself ? opened.format === 'ova' : isNamed(target, '.ova')) {
    return await moved(overwriting, { kind: 'archive', path: target }, false);
  }
  if (!itself && !isNamed(target, '.ovf')) {
    throw new ImgfsError('usage', `${target} is named like neither an archive nor a descriptor`, {
      hint: 'it ends in .ova or .ovf',
    });
  }
  const beside = opened.format === 'ovf' && resolve(dirname(target)) === resolve(dirname(path));
  return await moved(overwriting, beside ? { kind: 'beside', descriptor: basename(target) } : filesAt(target), false);
}

async function moved({ opened, path, flags }: Job, to: Destination, withManifest: boolean): Promise<number> {
  const { systemType, sha: digest, overwrite, lax } = flags;
  if (to.kind === 'archive') assertNotMounted(to.path);
  const appliance = new Appliance(opened);
  if (systemType !== undefined) {
    if (appliance.descriptor.parsed.systemTypes.length === 0) {
      throw new ImgfsError('unsupported', `${path} says nothing of the type of its machine (VirtualSystemType)`);
    }
    for (const misfit of misfits(systemType, appliance.descriptor.parsed)) warn(misfit);
  }
  const wanted = { to, systemType, digest, withManifest, overwrite: overwrite === true, lax: lax === true, warn };
  await withProgress('writing', { opened, flags }, (line) =>
    interruptible((run) => run(showing(transfer(appliance, wanted), line, 'part'))),
  );
  return 0;
}

async function verifyFile({ opened, path, target, flags }: Job): Promise<number> {
  if (target !== undefined) throw new ImgfsError('usage', 'verify takes one file');
  const json = wantsJson(flags);
  const found = await withProgress('verifying', { opened, flags }, (line) =>
    interruptible((run) => run(showing(verify(opened), line, 'part'))),
  );
  return report(path, found, flags, json);
}

function report(path: string, found: Verification, { quiet, lax }: OvaFlags, json: boolean): number {
  const { manifest, certificate, verified, problems } = found;
  const all = manifest === undefined ? ['there is no manifest: nothing was verified', ...problems] : problems;
  if (json) {
    const state = all.length === 0 ? 'verified' : 'failed';
    print(
      jsonText({
        schema: 'imgfs.verification/1',
        filename: path,
        state,
        manifest,
        certificate,
        verified,
        problems: all,
      }),
    );
  } else if (quiet !== true) {
    print(verified.map((name) => `${printable(name)}: OK\n`).join(''));
    if (certificate !== undefined) note(`${certificate} signs the manifest: imgfs does not check by whom`);
  }
  for (const problem of all) warn(`${path}: ${problem}`);
  if (all.length === 0 || lax === true) return 0;
  throw new ImgfsError(
    'corrupt',
    `${path} is not verified: ${all.length} ${all.length === 1 ? 'problem' : 'problems'}`,
  );
}

/** Throws what opening it throws, and `refused` for an image. */
function openAppliance(path: string, { allowRefs = [] }: OvaFlags): OpenedContainer {
  const options = { formats, references: { follow: true, allowed: allowRefs }, forceShare: false, warn };
  const opened = openContainer(path, options);
  if (opened !== undefined) return opened;
  const { image, plan } = openImage(path, options);
  image.close();
  throw new ImgfsError('refused', `${path} is a disk (${plan.format}), not an appliance`);
}

function assertForm({ opened, path }: Job, form: 'ova' | 'ovf'): void {
  if (opened.format === form) return;
  throw new ImgfsError('usage', `${path} is ${opened.format}, not ${form}`);
}

/** A directory, or a descriptor in one. */
function filesAt(target: string): Destination {
  if (!isNamed(target, '.ovf')) return { kind: 'files', directory: target, descriptor: undefined };
  return { kind: 'files', directory: dirname(target), descriptor: basename(target) };
}

function isNamed(path: string, extension: string): boolean {
  return extname(path).toLowerCase() === extension;
}

function digestNamed(text: string): Digest {
  const digest = text.toUpperCase().replace('-', '');
  if (digest === 'SHA1' || digest === 'SHA256' || digest === 'SHA512') return digest;
  throw new ImgfsError('usage', `"${text}" is no digest for a manifest`, { hint: 'sha1, sha256 or sha512' });
}

async function withProgress<T>(
  label: string,
  { opened, flags }: Pick<Job, 'opened' | 'flags'>,
  body: (line: ProgressLine) => Promise<T>,
): Promise<T> {
  const total = opened.format === 'ova' ? opened.file.size : undefined;
  const line = new ProgressLine({ verb: 'ova', label, total }, flags);
  try {
    return await body(line);
  } finally {
    line.end();
  }
}
