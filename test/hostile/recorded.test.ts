import { execFileSync, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect } from 'chai';
import { virtualBox } from '../../src/formats/ova/samples/descriptors.js';
import { samples } from '../../src/formats/ova/samples.js';
import { MAIN } from '../support/imgfs.js';
import { needsTool } from '../support/qemu.js';
import { withScratch } from '../support/scratch.js';
import { MARKS, makePlace, type Place, qcow2Naming, vmdkNaming, writeCorpus } from './corpus.js';

const HERE = path.dirname(fileURLToPath(import.meta.url));

/** One recorded open that succeeded. */
interface Opened {
  readonly path: string;
  /** A mere place in the tree: it can neither be read nor written, and opening it does nothing to what it names. */
  readonly place: boolean;
}

/** Runs node under strace and returns every open that succeeded, in order, resolved, with the marks among them. */
function record(directory: string, args: readonly string[]): { opened: Opened[]; output: string } {
  const log = path.join(directory, 'calls');
  const calls = 'trace=open,openat,openat2,creat,execve,connect,socket';
  const run = spawnSync('strace', ['-f', '-y', '-s', '4096', '-e', calls, '-o', log, process.execPath, ...args], {
    encoding: 'utf8',
  });
  const opened: Opened[] = [];
  for (const line of fs.readFileSync(log, 'utf8').split('\n')) {
    const mark = Object.values(MARKS).find((each) => line.includes(`"${each}"`));
    if (mark !== undefined) opened.push({ path: mark, place: true });
    // With -y a descriptor is printed with the path behind it: = 21</path/of/it>
    const result = /(?:open|openat|openat2|creat)\(.*\)\s+= \d+<(.*)>$/.exec(line)?.[1];
    if (result !== undefined) opened.push({ path: result, place: line.includes('O_PATH') });
    if (/^\d+ +(?:connect|execve)\(/.test(line)) opened.push({ path: `call ${line}`, place: false });
  }
  return { opened, output: run.stdout + run.stderr };
}

function between({ opened }: { opened: Opened[] }): Opened[] {
  const [from, to] = [MARKS.begin, MARKS.end].map((mark) => opened.findIndex((one) => one.path === mark));
  expect(from).to.be.greaterThan(0);
  expect(to).to.be.greaterThan(from ?? 0);
  return opened.slice((from ?? 0) + 1, to);
}

function within(body: (place: Place, directory: string) => void): void {
  withScratch('recorded', (directory) => body(makePlace(directory), directory));
}

describe('hostile: recorded by strace', () => {
  needsTool('strace');

  it('gate-recorded: over every hostile image nothing outside its directory is opened', () =>
    within((place, directory) => {
      writeCorpus(place);
      execFileSync('mkfifo', [path.join(place.home, 'fifo')]);
      const files = fs.readdirSync(place.home).length;
      const recorded = record(directory, [path.join(HERE, 'open-corpus.js'), place.home]);
      const ends = JSON.parse(recorded.output.trim()) as Record<string, number>;
      expect(ends.refused).to.be.greaterThan(files * 0.6);
      const outside = between(recorded).filter(
        (one) => !one.place && !one.path.startsWith(`${place.home}/`) && !/^\/proc\/\d+\/(?:fd|fdinfo)/.test(one.path),
      );
      expect(outside).to.deep.equal([]);
      // The recording itself works: every image was seen to be opened.
      const seen = new Set(between(recorded).flatMap((one) => (one.place ? [] : [one.path])));
      expect(fs.readdirSync(place.home).filter((name) => !seen.has(path.join(place.home, name)))).to.deep.equal([
        'fifo',
        'link-directory',
        'link-out',
        'sub',
      ]);
      const places = between(recorded).filter((one) => one.place && !one.path.startsWith(place.home));
      for (const one of places) expect(one.path).to.equal('/');
    }));

  it('info-opens-one-file: whatever an image names, info opens that one file', () =>
    within((place, directory) => {
      place.put('base', Buffer.from('the base'));
      const images = [
        place.backed('a.qcow2', 'base', 'raw'),
        place.backed('b.qcow2', place.secret, 'raw'),
        place.backed('c.qcow2', 'json:{"driver":"file","filename":"/etc/passwd"}'),
        place.put('d.qcow2', qcow2Naming({ dataFile: { name: 'base', raw: true } })),
        place.put('e.qcow2', qcow2Naming({ dataFile: { name: '/etc/passwd' } })),
        place.put('f.vmdk', vmdkNaming(['RW 1 FLAT "base" 0', 'RW 1 SPARSE "/etc/passwd"'])),
        place.put('g.vmdk', vmdkNaming(['RW 1 ZERO'], '/etc/passwd')),
        place.put('h.ovf', Buffer.from(virtualBox([{ href: 'base' }]))),
        place.put('i.ova', samples.good()[0]!.container),
      ];
      for (const image of images) {
        const { opened, output } = record(directory, [MAIN, 'info', image]);
        expect(output).to.include(`file format: ${path.extname(image).slice(1)}`);
        const ours = opened.filter(({ path: each }) => each.startsWith(directory) && !each.endsWith('/calls'));
        expect(ours.map((one) => one.path)).to.deep.equal([image]);
        expect(opened.filter((one) => /passwd|shadow|^call .*connect/.test(one.path))).to.deep.equal([]);
      }
    }));
});
