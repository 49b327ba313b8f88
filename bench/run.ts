/**
 * `make bench`: imgfs beside its fuse-native adapter, qemu-storage-daemon's FUSE export and a plain raw file, all on
 * the same images. Servers alternate within each round, so that what else the machine does meets all of them.
 *
 * IMGFS_BENCH=buffered,zlib runs only these measures; IMGFS_BENCH_ROUNDS sets the rounds, IMGFS_BENCH_JSON names a file
 * for the results, IMGFS_BENCH_DIR the place for the images (4 GiB).
 */
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { type BenchImages, buildImages, type ImageName } from './images.js';
import { MEASURES, type Measure } from './measures.js';
import { json, type Outcome, table } from './report.js';
import { SERVERS, type Server, type Serving, start } from './servers.js';
import { cleanUp, cleanUpOnSignals, installed, workplace } from './workplace.js';

const ROUNDS = Number(process.env.IMGFS_BENCH_ROUNDS ?? 5);

/** What must be there before anything can be compared, as the line that tells what to do; undefined when all is. */
function obstacle(): string | undefined {
  if (process.getuid?.() !== 0) return 'run it as root: sudo make bench';
  const packages = { 'qemu-img': 'qemu-utils', 'qemu-storage-daemon': 'qemu-system-common', fio: 'fio' };
  const missing = Object.entries(packages).filter(([program]) => !installed(program));
  if (missing.length === 0) return undefined;
  return `needs ${missing.map(([program]) => program).join(', ')}: apt-get install -y ${missing.map(([, name]) => name).join(' ')}`;
}

function wanted(): readonly Measure[] {
  const ids = process.env.IMGFS_BENCH?.split(',').filter((id) => id !== '');
  const unknown = ids?.find((id) => !MEASURES.some((measure) => measure.id === id));
  if (unknown !== undefined) {
    throw new Error(`no measure is called ${unknown}: there are ${MEASURES.map(({ id }) => id).join(', ')}`);
  }
  return MEASURES.filter(({ id }) => ids === undefined || ids.length === 0 || ids.includes(id));
}

/** Starts servers when they are first needed; those of one image serve all measures on it. */
class Field {
  private readonly serving = new Map<string, Serving>();
  private count = 0;

  constructor(
    private readonly directory: string,
    private readonly images: BenchImages,
  ) {}

  async start(server: Server, image: ImageName): Promise<Serving> {
    this.count += 1;
    return await start(server, this.images[image], path.join(this.directory, `view-${this.count}`));
  }

  async once(server: Server, measure: Measure): Promise<number | undefined> {
    if (measure.fresh === true) {
      const fresh = await this.start(server, measure.image);
      try {
        return await measure.once(fresh);
      } finally {
        await fresh.stop();
      }
    }
    const key = `${server.name} ${measure.image}`;
    const serving = this.serving.get(key) ?? (await this.start(server, measure.image));
    this.serving.set(key, serving);
    return await measure.once(serving);
  }

  async stopAll(): Promise<void> {
    for (const serving of this.serving.values()) await serving.stop();
    this.serving.clear();
  }
}

/** One uncounted round first, for the just-in-time compilers and the caches; who begins changes every round. */
async function alternate(field: Field, servers: readonly Server[], measure: Measure): Promise<Outcome> {
  const values = new Map<string, number[]>(servers.map(({ name }) => [name, []]));
  for (let round = 0; round <= ROUNDS; round++) {
    for (let turn = 0; turn < servers.length; turn++) {
      const server = servers[(round + turn) % servers.length]!;
      const value = await field.once(server, measure);
      if (value !== undefined && round > 0) values.get(server.name)?.push(value);
    }
  }
  return { measure, values };
}

/** Without the servers that cannot run here. */
async function usable(field: Field): Promise<readonly Server[]> {
  const found: Server[] = [];
  for (const server of SERVERS) {
    try {
      await (await field.start(server, 'plain')).stop();
      found.push(server);
    } catch (error) {
      console.log(`without ${server.name}: ${error instanceof Error ? error.message : String(error)}`);
    }
  }
  return found;
}

function machine(directory: string): Readonly<Record<string, string>> {
  const qemu = spawnSync('qemu-storage-daemon', ['--version'], { encoding: 'utf8' }).stdout.split('\n')[0] ?? '';
  return {
    cpus: `${os.cpus().length} x ${os.cpus()[0]?.model ?? 'unknown'}`,
    kernel: os.release(),
    node: process.version,
    qemu: qemu.replace('qemu-storage-daemon version ', ''),
    images: path.dirname(directory),
    rounds: String(ROUNDS),
    date: new Date().toISOString(),
  };
}

async function main(): Promise<void> {
  const measures = wanted();
  const directory = workplace();
  console.log('building the images');
  const field = new Field(directory, await buildImages(directory));
  const servers = await usable(field);
  const outcomes: Outcome[] = [];
  for (const measure of measures) {
    console.log(`${measure.id}: ${measure.title}`);
    outcomes.push(await alternate(field, servers, measure));
  }
  await field.stopAll();
  const about = machine(directory);
  console.log(
    `\n${Object.entries(about)
      .map(([key, value]) => `${key}: ${value}`)
      .join('\n')}\n`,
  );
  console.log(
    table(
      outcomes,
      servers.map(({ name }) => name),
    ),
  );
  console.log('\nmedian (min..max); imgfs : best qsd is how many times better imgfs is, the median of the rounds');
  const file = process.env.IMGFS_BENCH_JSON;
  if (file !== undefined) fs.writeFileSync(file, json(about, outcomes));
}

const needed = obstacle();
if (needed !== undefined) {
  console.error(`make bench ${needed}`);
  process.exitCode = 1;
} else {
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
