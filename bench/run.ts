/**
 * `make bench`: imgfs beside qemu-storage-daemon's FUSE export, beside fuse-native, and beside a plain file as the
 * limit. Servers alternate within each round, and the medians of all rounds are shown: machines are noisy.
 *
 * IMGFS_BENCH=id,id chooses measures, IMGFS_BENCH_ROUNDS their number, IMGFS_BENCH_JSON=FILE keeps every sample.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { type Images, MEASURES, type Measure } from './measures.js';
import { SERVERS } from './servers.js';

const DISK = 512 * 1024 * 1024;

/** Text as compressible as an installed system: words, numbers and a share of noise. */
function fillRaw(file: string): void {
  const fd = fs.openSync(file, 'w');
  let state = 12345;
  const next = (): number => {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0;
    return state;
  };
  const block = Buffer.alloc(1024 * 1024);
  for (let at = 0; at < DISK; at += block.length) {
    for (let n = 0; n < block.length; n += 4) block.writeUInt32LE(n % 16 < 6 ? next() : (at + n) % 4096, n);
    fs.writeSync(fd, block);
  }
  fs.closeSync(fd);
}

function makeImages(home: string): Images {
  const at = (name: string): string => path.join(home, name);
  const images = { plain: at('plain.qcow2'), zlib: at('zlib.qcow2'), zstd: at('zstd.qcow2'), raw: at('disk.raw') };
  fillRaw(images.raw);
  const convert = (...options: readonly string[]): void => {
    execFileSync('qemu-img', ['convert', '-f', 'raw', '-O', 'qcow2', ...options], { stdio: 'ignore' });
  };
  convert(images.raw, images.plain);
  convert('-c', images.raw, images.zlib);
  convert('-c', '-o', 'compression_type=zstd', images.raw, images.zstd);
  return { ...images, bytes: DISK };
}

function median(samples: readonly number[]): number {
  const sorted = [...samples].sort((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

function shown(value: number): string {
  return value >= 100 ? value.toFixed(0) : value.toPrecision(3);
}

/** One row: each server's median with its range, and how much better the first is than the second. */
function row(measure: Measure, samples: readonly (readonly number[])[]): string {
  const medians = samples.map(median);
  const cells = samples.map(
    (all, n) => `${shown(medians[n]!)} (${shown(Math.min(...all))}-${shown(Math.max(...all))})`,
  );
  const [ours = 0, theirs = 0] = medians;
  const factor = measure.smallerIsBetter === true ? theirs / ours : ours / theirs;
  const expected = measure.expected === undefined ? '' : `${measure.expected}x`;
  return `| ${[`${measure.name}, ${measure.unit}`, ...cells, `${factor.toFixed(2)}x`, expected].join(' | ')} |`;
}

const missing = ['qemu-img', 'qemu-storage-daemon', 'fio'].filter((tool) => spawnSync(tool, ['--version']).error);
if (missing.length > 0 || process.getuid?.() !== 0) {
  console.error(`bench: needs root, and ${missing.join(', ') || 'nothing else'} installed`);
  process.exit(1);
}
const wanted = process.env.IMGFS_BENCH?.split(',');
const rounds = Number(process.env.IMGFS_BENCH_ROUNDS ?? 5);
const home = fs.mkdtempSync(path.join(os.tmpdir(), 'imgfs-bench-'));
process.on('SIGINT', () => process.exit(130));
process.on('exit', () => {
  for (const name of fs.readdirSync(home))
    spawnSync('umount', ['-l', path.join(home, name, 'mnt')], { stdio: 'ignore' });
  fs.rmSync(home, { recursive: true, force: true });
});

const images = makeImages(home);
const kept: Record<string, unknown> = {};
console.log(
  `\n| ${['measure: median (range)', ...SERVERS.map((server) => server.name), 'imgfs : qsd', 'expected'].join(' | ')} |`,
);
console.log(`|${' --- |'.repeat(SERVERS.length + 3)}`);
for (const measure of MEASURES.filter(({ id }) => wanted === undefined || wanted.includes(id))) {
  const samples: number[][] = SERVERS.map(() => []);
  for (let round = 0; round < rounds; round++) {
    for (const [n, server] of SERVERS.entries()) {
      samples[n]!.push(await measure.run(server, images[measure.image], images, path.join(home, `server-${n}`)));
    }
  }
  kept[measure.id] = Object.fromEntries(SERVERS.map((server, n) => [server.name, samples[n]]));
  console.log(row(measure, samples));
}
console.log(
  `\nmedians of ${rounds} alternating rounds; ${os.cpus().length} cores, Linux ${os.release()}, Node ${process.version}`,
);
const keep = process.env.IMGFS_BENCH_JSON;
if (keep !== undefined) fs.writeFileSync(keep, `${JSON.stringify(kept, undefined, 2)}\n`);
