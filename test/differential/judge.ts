/** Runs a row's command line through both programs and says where they differ. */
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import type { Run } from '../support/imgfs.js';
import { QemuSession } from '../support/qemu-session.js';
import type { Resident } from './resident.js';
import { type DifferentRow, type Row, words } from './row.js';
import { namedIn } from './stock.js';

const LARGE = 2 ** 26;
const BLOCK = 4096;
const ZEROS = Buffer.alloc(BLOCK);
/** What no two files have in common, and what imgfs tells beside qemu-img's keys. */
const NOT_COMPARED = new Set(['actual-size', 'cid', 'parent-cid', 'date-sec', 'date-nsec']);
const OURS_ONLY = new Set(['schema', 'exact-size', 'name-bytes', 'compressed']);
const PROGRESS = / *\([\d.]+\/100%\)\r/g;

/** Both runs of a line, each in a directory of its own. */
export interface Both {
  readonly ours: Side;
  readonly theirs: Side;
}

interface Side extends Run {
  readonly directory: string;
}

/** Runs a line in two directories beneath `directory`, with the files of `stock` that it names. */
export async function runBoth(
  row: Pick<Row, 'line' | 'with' | 'locked'>,
  resident: Resident,
  stock: string,
  directory: string,
): Promise<Both> {
  const args = words(row.line);
  const files = namedIn([...args, ...row.with]);
  const [ours, theirs] = ['ours', 'theirs'].map((side) => path.join(directory, side)) as [string, string];
  for (const cwd of [ours, theirs]) {
    fs.mkdirSync(cwd, { recursive: true });
    for (const name of files) copySparsely(path.join(stock, name), path.join(cwd, name));
  }
  const held: QemuSession[] = [];
  try {
    if (row.locked !== undefined) {
      for (const cwd of [ours, theirs]) held.push(await QemuSession.open(path.join(cwd, row.locked)));
    }
    return {
      ours: { ...(await resident.run({ args, cwd: ours })), directory: ours },
      theirs: { ...(await tool('qemu-img', args, theirs)), directory: theirs },
    };
  } finally {
    for (const session of held) await session.close();
  }
}

/** Everything in which the runs are not what the row says; nothing for a good row. */
export async function verdict(row: Row, both: Both, stock: string): Promise<readonly string[]> {
  const { ours, theirs } = both;
  const found = [...complaints(row, both)];
  const printed = row.output === 'same' ? differenceOfOutput(row, both) : undefined;
  if (printed !== undefined) found.push(printed);
  const touched = {
    ours: changedIn(ours.directory, stock),
    theirs: changedIn(theirs.directory, stock),
  };
  for (const [side, names] of Object.entries(touched)) {
    const wanted = [...row.changes].sort();
    if (names.join() !== wanted.join()) found.push(`${side}: changed [${names}] instead of [${wanted}]`);
  }
  for (const name of row.changes) {
    const files = [ours, theirs].map(({ directory }) => path.join(directory, name));
    // Gone on both sides, or found above to be on one only.
    if (files.some((file) => !fs.existsSync(file))) continue;
    found.push(...(await differencesOfImages(files as [string, string], row)));
  }
  return found;
}

/** Whether and how the runs end as a row of differences says, and that they do differ. */
export async function differenceVerdict(row: DifferentRow, both: Both, stock: string): Promise<readonly string[]> {
  const found: string[] = [];
  for (const [side, [code, says]] of [
    ['theirs', row.qemuImg],
    ['ours', row.imgfs],
  ] as const) {
    const run = both[side];
    if (run.code !== code) found.push(`${side}: ended with ${run.code}, not ${code}: ${run.stderr}`);
    const printed = `${run.stdout}${run.stderr}`;
    if (!says.test(printed)) found.push(`${side}: ${JSON.stringify(printed)} does not match ${says}`);
  }
  const [code] = row.qemuImg;
  const changes = changedIn(both.theirs.directory, stock);
  const alike = { ...row, code, changes, output: 'same', layout: 'same' } as const;
  const same = both.ours.stdout === both.theirs.stdout && (await verdict(alike, both, stock)).length === 0;
  if (same) found.push('there is no difference any more');
  return found;
}

/** In exit codes and in what was said on standard error. */
function* complaints(row: Row, { ours, theirs }: Both): Generator<string> {
  if (theirs.code !== row.code) yield `qemu-img ended with ${theirs.code}, not ${row.code}: ${theirs.stderr}`;
  if (ours.code !== row.code) yield `imgfs ended with ${ours.code}, not ${row.code}: ${ours.stderr}`;
  if (row.says === undefined) return;
  const [qemuImg, imgfs] = row.says;
  if (!qemuImg.test(theirs.stderr)) yield `qemu-img says ${JSON.stringify(theirs.stderr)}, not ${qemuImg}`;
  if (!imgfs.test(ours.stderr)) yield `imgfs says ${JSON.stringify(ours.stderr)}, not ${imgfs}`;
  if (!/^imgfs: [^\n]+\n$/.test(ours.stderr)) yield `imgfs says more than one line: ${JSON.stringify(ours.stderr)}`;
}

function differenceOfOutput(row: Row, { ours, theirs }: Both): string | undefined {
  const json = /--output[ =]json/.test(row.line) && theirs.stdout !== '';
  const [own, other] = [ours, theirs].map(({ stdout }) => (json ? comparable(stdout) : plain(stdout)));
  return own === other ? undefined : `printed: ${differingLines(own ?? '', other ?? '')}`;
}

/** JSON with its keys in order, but for what is not compared; or the text, where it is none. */
function comparable(text: string, ignored?: string): string {
  try {
    const sorted = (_: string, value: unknown): unknown =>
      typeof value !== 'object' || value === null || Array.isArray(value)
        ? value
        : Object.fromEntries(
            Object.entries(value)
              .filter(([key]) => !NOT_COMPARED.has(key) && !OURS_ONLY.has(key) && key !== ignored)
              .sort(([a], [b]) => (a < b ? -1 : 1)),
          );
    return JSON.stringify(JSON.parse(text), sorted, 1);
  } catch {
    return `no JSON: ${text}`;
  }
}

function plain(text: string): string {
  const said = text.replace(PROGRESS, '');
  // Progress ends with an empty line.
  const without = said === text ? said : said.replace(/\n$/, '');
  return without.replace(/^disk size: .*$/gm, 'disk size: some');
}

/** From the first line in which two texts differ to the last. */
function differingLines(own: string, other: string): string {
  const lines = [own.split('\n'), other.split('\n')] as const;
  const alike = (from: 0 | -1): number => {
    const at = (n: number): number => (from === 0 ? n : -1 - n);
    const length = Math.min(...lines.map((side) => side.length));
    let n = 0;
    while (n < length && lines[0].at(at(n)) === lines[1].at(at(n))) n++;
    return n;
  };
  const [before, behind] = [alike(0), alike(-1)];
  const [ours, theirs] = lines.map((side) => side.slice(before, Math.max(before, side.length - behind)).join('\n'));
  return `${JSON.stringify(ours)} instead of ${JSON.stringify(theirs)}`;
}

/** The names of files that are not what they are in the stock, in order. */
function changedIn(directory: string, stock: string): readonly string[] {
  return fs
    .readdirSync(directory)
    .filter((name) => digest(path.join(directory, name)) !== digest(path.join(stock, name)))
    .sort();
}

function digest(file: string): string {
  const stat = fs.statSync(file, { throwIfNoEntry: false });
  if (stat === undefined || stat.isDirectory()) return stat === undefined ? 'nothing' : 'directory';
  if (stat.size > LARGE) return `${stat.size} ${stat.mtimeMs}`;
  return createHash('sha256').update(fs.readFileSync(file)).digest('hex');
}

/** In what qemu-img tells of them, in what a guest reads, in what is allocated, and in soundness. */
async function differencesOfImages(files: readonly [string, string], row: Row): Promise<readonly string[]> {
  const [own] = files;
  const [ownInfo, otherInfo] = await Promise.all(files.map((file) => inside(file, ['info', '--output=json'])));
  // A part of an image is none: the image it belongs to is looked at.
  if (otherInfo?.code !== 0)
    return row.changes.length > 1 ? [] : [`qemu-img cannot open its own: ${otherInfo?.stderr}`];
  if (ownInfo?.code !== 0) return [`qemu-img cannot open what imgfs made: ${ownInfo?.stderr}`];
  const [ownProperties, otherProperties] = [ownInfo, otherInfo].map(({ stdout }) => comparable(stdout, row.ignored));
  if (ownProperties !== otherProperties) {
    return [`${path.basename(own)}: ${differingLines(ownProperties ?? '', otherProperties ?? '')}`];
  }
  const info = JSON.parse(otherInfo.stdout) as Info;
  const { format } = info;
  const found: string[] = [];
  found.push(...(await differencesOfContent(files, info)));
  if (row.layout === 'same') {
    const maps = await Promise.all(files.map((file) => layout(file, format)));
    if (maps[0] !== maps[1]) found.push(`layout: ${differingLines(maps[0] ?? '', maps[1] ?? '')}`);
  }
  if (format === 'qcow2' || format === 'vmdk' || format === 'vdi') {
    const { code, stdout, stderr } = await inside(own, ['check', '-f', format]);
    if (code !== 0) found.push(`check: ${stdout}${stderr}`);
  }
  return found;
}

/** QEMU looks for data files in the current directory: only there can two images with equal names for them be read. */
async function differencesOfContent(files: readonly [string, string], info: Info): Promise<readonly string[]> {
  const { format } = info;
  const [own, other] = files.map((file) => `${path.dirname(file)}.flat`) as [string, string];
  const compare = (as: string, one: string, two: string): Promise<Run> =>
    tool('qemu-img', ['compare', '-f', as, '-F', as, one, two]);
  if (info['format-specific']?.data['data-file'] === undefined) return disagreement(await compare(format, ...files));
  for (const [file, flat] of [
    [files[0], own],
    [files[1], other],
  ] as const) {
    const copied = await inside(file, ['convert', '-f', format, '-O', 'raw'], [flat]);
    if (copied.code !== 0) return disagreement(copied);
  }
  return disagreement(await compare('raw', own, other));
}

function disagreement({ code, stdout, stderr }: Run): readonly string[] {
  return code === 0 ? [] : [`content: ${stdout}${stderr}`];
}

/** qemu-img in the directory of a file, on that file. */
function inside(file: string, args: readonly string[], more: readonly string[] = []): Promise<Run> {
  return tool('qemu-img', [...args, path.basename(file), ...more], path.dirname(file));
}

interface Info {
  readonly format: string;
  readonly 'format-specific'?: { readonly data: Readonly<Record<string, unknown>> };
}

interface Stretch {
  readonly length: number;
  readonly depth: number;
  readonly present: boolean;
  readonly data: boolean;
}

/**
 * What qemu-img says of every byte, but for where it lies, and for zeros within what is stored, which are the host's
 * holes: neighbours that differ in nothing else are one.
 */
async function layout(file: string, format: string): Promise<string> {
  const { stdout } = await inside(file, ['map', '--output=json', '-f', format]);
  const joined: { kind: string; length: number }[] = [];
  for (const run of JSON.parse(stdout || '[]') as Stretch[]) {
    const kind = `depth ${run.depth}, ${run.data ? 'stored' : run.present ? 'zero' : 'hole'}`;
    const { length } = run;
    const last = joined.at(-1);
    if (last?.kind === kind) last.length += length;
    else joined.push({ kind, length });
  }
  return joined.map(({ kind, length }) => `${length} ${kind}`).join('\n');
}

/** Blocks of zeros become holes. Two copies are alike in that. */
function copySparsely(from: string, to: string): void {
  if (fs.statSync(from).isDirectory()) {
    fs.mkdirSync(to);
    return;
  }
  const bytes = fs.readFileSync(from);
  const fd = fs.openSync(to, 'w');
  for (let at = 0; at < bytes.length; at += BLOCK) {
    const block = bytes.subarray(at, at + BLOCK);
    if (!ZEROS.subarray(0, block.length).equals(block)) fs.writeSync(fd, block, 0, block.length, at);
  }
  fs.ftruncateSync(fd, bytes.length);
  fs.closeSync(fd);
}

function tool(command: string, args: readonly string[], cwd?: string): Promise<Run> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'], ...(cwd === undefined ? {} : { cwd }) });
    const said: [Buffer[], Buffer[]] = [[], []];
    child.stdout.on('data', (bytes: Buffer) => said[0].push(bytes));
    child.stderr.on('data', (bytes: Buffer) => said[1].push(bytes));
    child.once('error', reject);
    child.once('close', (code) => {
      const [stdout, stderr] = said.map((pieces) => Buffer.concat(pieces).toString()) as [string, string];
      resolve({ code, stdout, stderr });
    });
  });
}
