/** A tree of many files as a system or a program brings them, the same in every run. */
import fs from 'node:fs';
import path from 'node:path';
import { writeDisk } from './images.js';
import { run } from './workplace.js';

const KIB = 1024;
const DIRECTORIES = 8;
const FILES_EACH = 250;
const SEED = 20_240_229;

/** What is unpacked and copied. */
export interface Files {
  /** The tree itself. */
  readonly tree: string;
  /** Its directories, each as a tar archive. */
  readonly archives: readonly string[];
  readonly bytes: number;
}

/** Most files are small, most bytes lie in large ones: about 140 MiB in 2000 files. */
export async function makeFiles(directory: string): Promise<Files> {
  const source = path.join(directory, 'content');
  writeDisk(source, 8 * KIB * KIB);
  const content = fs.readFileSync(source);
  fs.rmSync(source);
  const tree = path.join(directory, 'tree');
  const next = sizes();
  let bytes = 0;
  const archives: string[] = [];
  for (let n = 0; n < DIRECTORIES; n++) {
    const part = path.join(tree, `part-${n}`);
    fs.mkdirSync(part, { recursive: true });
    for (let file = 0; file < FILES_EACH; file++) {
      const { size, from } = next(content.length);
      fs.writeFileSync(path.join(part, `file-${file}`), content.subarray(from, from + size));
      bytes += size;
    }
    const archive = path.join(directory, `part-${n}.tar`);
    await run('tar', ['-C', tree, '-cf', archive, `part-${n}`]);
    archives.push(archive);
  }
  return { tree, archives, bytes };
}

/** Sizes of files and where their content is cut from, by a linear congruential generator. */
function sizes(): (room: number) => { size: number; from: number } {
  let state = SEED;
  const random = (below: number): number => {
    state = (state * 1_103_515_245 + 12_345) % 2 ** 31;
    return Math.floor((state / 2 ** 31) * below);
  };
  return (room) => {
    const kind = random(100);
    const most = kind < 70 ? 16 * KIB : kind < 95 ? 128 * KIB : 2048 * KIB;
    const size = most / 8 + random((most * 7) / 8);
    return { size: Math.floor(size), from: random(room - most) };
  };
}
