/**
 * `make bench`: imgfs beside qemu-storage-daemon's FUSE export, raw files and its own fuse-native adapter.
 *
 * `make bench BENCH=writes,buffered` (or IMGFS_BENCH) runs only these groups and measures; IMGFS_BENCH_ROUNDS sets the
 * rounds, IMGFS_BENCH_JSON names a file for the results, IMGFS_BENCH_DIR the place for the images (4 GiB),
 * IMGFS_BENCH_DISK the place for those whose flushes should cost what they cost on a disk (11 GiB).
 */
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import { appliances } from './appliances.js';
import { bonnie } from './bonnie.js';
import { alternate, type Contest, type Group } from './contest.js';
import { converting } from './convert.js';
import { encrypted } from './encrypted.js';
import { otherFormats } from './formats.js';
import { installation } from './installation.js';
import { reads } from './reads.js';
import { json, type Result, table } from './report.js';
import { cleanUp, cleanUpOnSignals, installed, onDisk, workplace } from './workplace.js';
import { writes } from './writes.js';

const ROUNDS = Number(process.env.IMGFS_BENCH_ROUNDS ?? 5);

/** The groups by the names they are asked for. */
const GROUPS: Readonly<Record<string, (memory: string) => Promise<readonly Group[]>>> = {
  reads: async (memory) => [await reads(memory)],
  writes: async (memory) => [await writes(memory)],
  tables: async (memory) => [await installation(onDisk(), memory), await bonnie(memory)],
  formats: async (memory) => [await otherFormats(memory)],
  encrypted: async (memory) => [await encrypted(memory)],
  convert: async () => [await converting()],
  appliances: async (memory) => [await appliances(memory)],
};

/** What must be there before anything can be compared, as the line that tells what to do; undefined when all is. */
function obstacle(): string | undefined {
  if (process.getuid?.() !== 0) return 'run it as root: sudo make bench';
  const packages = {
    'qemu-img': 'qemu-utils',
    'qemu-storage-daemon': 'qemu-system-common',
    fio: 'fio',
    'bonnie++': 'bonnie++',
    'mkfs.ext4': 'e2fsprogs',
    'mkfs.xfs': 'xfsprogs',
  };
  const missing = Object.entries(packages).filter(([program]) => !installed(program));
  if (missing.length === 0) return undefined;
  return `needs ${missing.map(([program]) => program).join(', ')}: apt-get install -y ${missing.map(([, name]) => name).join(' ')}`;
}

/** The names that were asked for; none for everything. */
function asked(): readonly string[] {
  const names = process.argv[2] ?? process.env.IMGFS_BENCH ?? '';
  return names.split(/[ ,]+/).filter((name) => name !== '');
}

/** A contest runs where its group or one of its measures was asked for. */
function isWanted(contest: Contest, group: string, names: readonly string[]): boolean {
  if (names.length === 0 || names.includes(group)) return true;
  return contest.measures.some(({ id }) => names.includes(id));
}

/** Runs what was asked for, group by group, so that only one group's images exist at a time. */
async function runAll(names: readonly string[]): Promise<readonly Result[]> {
  const results: Result[] = [];
  const known = new Set(Object.keys(GROUPS));
  for (const [name, open] of Object.entries(GROUPS)) {
    // A measure's name does not tell its group: with such names all groups are looked into.
    if (names.length > 0 && names.every((one) => one in GROUPS) && !names.includes(name)) continue;
    const memory = workplace();
    for (const group of await open(memory)) {
      for (const { measures } of group.contests) for (const { id } of measures) known.add(id);
      const wanted = group.contests.filter((contest) => isWanted(contest, name, names));
      const outcomes = [];
      for (const contest of wanted) {
        console.log(contest.measures.map(({ title }) => title).join('; '));
        outcomes.push(...(await alternate(contest, ROUNDS)));
      }
      await group.end?.();
      if (outcomes.length > 0) results.push({ group, outcomes });
    }
    fs.rmSync(memory, { recursive: true, force: true });
  }
  const unknown = names.find((name) => !known.has(name));
  if (unknown !== undefined) throw new Error(`no measure is called ${unknown}: there are ${[...known].join(', ')}`);
  return results;
}

function machine(): Readonly<Record<string, string>> {
  const qemu = spawnSync('qemu-storage-daemon', ['--version'], { encoding: 'utf8' }).stdout.split('\n')[0] ?? '';
  return {
    cpus: `${os.cpus().length} x ${os.cpus()[0]?.model ?? 'unknown'}`,
    kernel: os.release(),
    node: process.version,
    qemu: qemu.replace('qemu-storage-daemon version ', ''),
    rounds: String(ROUNDS),
    date: new Date().toISOString(),
  };
}

async function main(): Promise<void> {
  const results = await runAll(asked());
  const about = machine();
  console.log();
  for (const [key, value] of Object.entries(about)) console.log(`${key}: ${value}`);
  for (const result of results) {
    console.log(`\n${result.group.title} (${result.group.about})\n\n${table(result)}`);
  }
  console.log('\nmedian (min..max); a ratio says how many times better it is, the median of the rounds');
  const file = process.env.IMGFS_BENCH_JSON;
  if (file !== undefined) fs.writeFileSync(file, json(about, results));
}

const needed = obstacle();
if (needed !== undefined) {
  console.error(`make bench ${needed}`);
  process.exitCode = 1;
} else {
  // Where it is set, node reads these certificates before anything else: a habit of the machine, not a cost of imgfs.
  delete process.env.NODE_EXTRA_CA_CERTS;
  cleanUpOnSignals();
  try {
    await main();
  } catch (error) {
    console.error(error instanceof Error ? error.message : error);
    process.exitCode = 1;
  } finally {
    cleanUp();
  }
}
