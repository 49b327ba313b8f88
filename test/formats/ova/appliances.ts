/** Appliances made by the programs that people use: GNU tar, sha1sum, qemu-img. */
import fs from 'node:fs';
import path from 'node:path';
import { type SampleDisk, virtualBox } from '../../../src/formats/ova/samples/descriptors.js';
import { must, run } from '../../support/program.js';
import { qemuImg } from '../../support/qemu.js';
import { Random } from '../../support/seed.js';

const MIB = 1024 * 1024;

export interface MadeAppliance {
  readonly directory: string;
  readonly ova: string;
  readonly ovf: string;
  /** Raw files with what each disk holds. */
  readonly disks: readonly string[];
}

/** Disks with data here and there, as streamOptimized files `NAME-diskN.vmdk`, described and packed in `directory`. */
export function makeAppliance(
  directory: string,
  name = 'app',
  describe: (disks: readonly SampleDisk[]) => string = virtualBox,
): MadeAppliance {
  fs.mkdirSync(directory, { recursive: true });
  const random = new Random();
  const here = (file: string): string => path.join(directory, file);
  const hrefs = [1, 2].map((n) => `${name}-disk${n}.vmdk`);
  const disks = hrefs.map((href, n) => {
    const raw = here(`${n}.raw`);
    const bytes = Buffer.alloc((n === 0 ? 6 : 3) * MIB);
    for (let piece = 0; piece < 12; piece++) bytes.set(random.bytes(40_000), random.below(bytes.length - 40_000));
    fs.writeFileSync(raw, bytes);
    qemuImg('convert', '-f', 'raw', '-O', 'vmdk', '-o', 'subformat=streamOptimized', raw, here(href));
    return raw;
  });
  const described = hrefs.map((href, n) => ({
    href,
    file: ` ovf:size="${fs.statSync(here(href)).size}"`,
    capacity: fs.statSync(disks[n]!).size,
  }));
  const ovf = here(`${name}.ovf`);
  fs.writeFileSync(ovf, describe(described));
  const files = [`${name}.ovf`, ...hrefs];
  const lines = files.map((file) => `SHA1(${file})= ${must('sha1sum', here(file)).slice(0, 40)}\n`);
  fs.writeFileSync(here(`${name}.mf`), lines.join(''));
  const ova = here(`${name}.ova`);
  must('tar', '-C', directory, '--format=ustar', '-cf', ova, `${name}.ovf`, `${name}.mf`, ...hrefs);
  return { directory, ova, ovf, disks };
}

/** What an independent program says of a manifest's lines, with the files in that directory. */
export function sumsAgree(directory: string, manifest: string): boolean {
  const lines = fs.readFileSync(path.join(directory, manifest), 'latin1').trim().split('\n');
  return lines.every((line) => {
    const [, kind = '', file = '', hex = ''] = /^(SHA\d+)\((.*)\)= ([0-9a-f]+)$/.exec(line) ?? [];
    const sums = path.join(directory, 'sums');
    fs.writeFileSync(sums, `${hex}  ${file}\n`);
    const { code } = run(`${kind.toLowerCase()}sum`, ['-c', '--status', 'sums'], { cwd: directory });
    fs.rmSync(sums);
    return code === 0;
  });
}
