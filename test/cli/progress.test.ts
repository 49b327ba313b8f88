import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import { expect } from 'chai';
import { type Outlets, ProgressLine, showing, type Task } from '../../src/cli/progress.js';
import { ImgfsError } from '../../src/lib/errors.js';
import { drained } from '../../src/lib/steps.js';
import { imgfs, MAIN } from '../support/imgfs.js';
import { needsTool, qemuImg } from '../support/qemu.js';
import { scratch } from '../support/scratch.js';

const MIB = 2 ** 20;
const COPY: Task = { verb: 'convert', label: 'converting', total: 1000 * MIB };

/** Outlets that gather what is said, and a clock that is set. */
class Gathered implements Outlets {
  readonly said: string[] = [];
  readonly lines: string[] = [];
  readonly piped: string[] = [];
  readonly terminal: ((text: string) => void) | undefined;
  readonly pipe: ((text: string) => void) | undefined;
  time = 0;

  constructor(where: 'terminal' | 'pipe') {
    this.terminal = where === 'terminal' ? (text) => void this.said.push(text) : undefined;
    this.pipe = where === 'pipe' ? (text) => void this.piped.push(text) : undefined;
  }

  readonly line = (text: string): void => void this.lines.push(text);
  readonly now = (): number => this.time;

  /** A hundred steps of 10 MiB, each of which takes 100 ms. */
  steps(line: ProgressLine): void {
    for (let step = 0; step <= 100; step++, this.time += 100) line.showDone(step * 10 * MIB);
    line.end();
  }
}

describe('progress', () => {
  it('on a terminal: a bar after a second, five times a second, with rate and time left, gone at the end', () => {
    const out = new Gathered('terminal');
    out.steps(new ProgressLine(COPY, {}, out));
    expect(out.said).to.have.length(47);
    expect(out.said[0]).to.equal(
      'converting [##                      ]  10 %  100 MiB of 0.977 GiB  100 MiB/s  0:09 left',
    );
    expect(out.said[20]).to.equal(
      'converting [############            ]  50 %  500 MiB of 0.977 GiB  100 MiB/s  0:05 left',
    );
    expect(out.said.at(-1)).to.equal('');
    expect([out.lines, out.piped]).to.deep.equal([[], []]);
  });

  it('at once with -p; not at all with -q', () => {
    const out = new Gathered('terminal');
    new ProgressLine(COPY, { progress: true }, out).show(0);
    expect(out.said).to.deep.equal(['converting [                        ]   0 %  0 B of 0.977 GiB']);
    out.steps(new ProgressLine(COPY, { progress: true, quiet: true }, out));
    expect(out.said).to.have.length(1);
  });

  it('is nothing in a pipe, unless asked for: then what qemu-img writes', () => {
    const out = new Gathered('pipe');
    out.steps(new ProgressLine(COPY, {}, out));
    expect(out.piped).to.deep.equal([]);
    out.steps(new ProgressLine(COPY, { progress: '' }, out));
    expect(out.piped.slice(0, 2)).to.deep.equal(['    (0.00/100%)\r', '    (2.00/100%)\r']);
    expect(out.piped.slice(-2)).to.deep.equal(['    (100.00/100%)\r', '\n']);
  });

  it('as JSON: an object a line, twice a second, the first at once and the last at the end', () => {
    const out = new Gathered('pipe');
    out.steps(new ProgressLine(COPY, { progress: 'json' }, out));
    const documents = out.lines.map((line): unknown => JSON.parse(line));
    const known = { schema: 'imgfs.progress/1', verb: 'convert', total: 1000 * MIB };
    expect(documents).to.have.length(21);
    expect(documents[0]).to.deep.equal({ ...known, done: 0, part: 0, rate: null, secondsLeft: null });
    expect(documents[10]).to.deep.equal({ ...known, done: 500 * MIB, part: 0.5, rate: 100 * MIB, secondsLeft: 5 });
    expect(documents[20]).to.deep.include({ done: 1000 * MIB, part: 1, secondsLeft: 0 });
    expect(out.piped).to.deep.equal([]);
  });

  it('does not know bytes where none are counted', () => {
    const out = new Gathered('pipe');
    const line = new ProgressLine({ verb: 'check', label: 'checking' }, { progress: 'json' }, out);
    out.time = 100;
    line.show(0.25);
    expect(JSON.parse(out.lines[0] ?? '')).to.deep.include({ done: null, total: null, rate: null, secondsLeft: 1 });
  });

  it('tells how fast it went lately, and hours as hours', () => {
    const out = new Gathered('pipe');
    const line = new ProgressLine(COPY, {}, out);
    // Half of it in no time, then a thousandth every ten seconds.
    for (let step = 0; step < 10; step++, out.time += 10_000) {
      line.show(0.5 + step / 1000);
      line.tell();
    }
    expect(out.lines.at(-1)).to.equal('    (50.90/100%) converting  509 MiB of 0.977 GiB  102 KiB/s  1:21:50 left');
  });

  it('an unknown form is wrong usage', () => {
    expect(() => new ProgressLine(COPY, { progress: 'xml' }, new Gathered('pipe'))).to.throw(ImgfsError, 'xml');
  });

  it('passes steps on; what is empty is done', () => {
    const out = new Gathered('pipe');
    const line = new ProgressLine({ ...COPY, total: 0 }, { progress: true }, out);
    function* steps(): Generator<number, string, void> {
      yield* [1, 2];
      return 'the result';
    }
    const told: number[] = [];
    expect(drained(showing(steps(), line), (done) => told.push(done))).to.equal('the result');
    expect(told).to.deep.equal([1, 2]);
    expect(out.piped).to.deep.equal(['    (0.00/100%)\r', '    (100.00/100%)\r']);
  });
});

describe('progress of a process', function () {
  this.timeout(30_000);
  needsTool('qemu-img');
  const directory = scratch();
  const at = (name: string): string => directory.path(name);

  before(() => {
    fs.writeFileSync(at('a.raw'), Buffer.alloc(8 * MIB, 7));
    qemuImg('convert', '-O', 'qcow2', at('a.raw'), at('a.qcow2'));
  });

  it('-p in a pipe: what qemu-img writes, and -pq, a bare --progress before a name', () => {
    for (const letters of [['-p'], ['-pq'], ['--progress'], ['-p', '-s']]) {
      const words = letters.map((word) => (word === '--progress' ? '-p' : word));
      const args = (own: readonly string[]): readonly string[] => ['compare', ...own, at('a.qcow2'), at('a.qcow2')];
      expect(imgfs(args(letters)).stdout.split('\r').at(-1), letters.join(' ')).to.equal(
        qemuImg(...args(words))
          .split('\r')
          .at(-1),
      );
    }
    const { stdout } = imgfs(['convert', '-p', '-O', 'qcow2', at('a.raw'), at('b.qcow2')]);
    expect(stdout.startsWith('    (0.00/100%)\r')).to.equal(true);
    expect(stdout.endsWith('    (100.00/100%)\r\n')).to.equal(true);
  });

  it('--progress=json: lines on standard error that begin at 0 and end at 1', () => {
    const runs = [
      ['convert', '--progress=json', '-O', 'qcow2', at('a.raw'), at('c.qcow2')],
      ['compare', '--progress=json', at('a.raw'), at('a.qcow2')],
      ['check', '--progress=json', at('a.qcow2')],
    ];
    for (const [verb = '', ...args] of runs) {
      const { code, stderr } = imgfs([verb, ...args]);
      expect(code).to.equal(0);
      const lines = stderr.trimEnd().split('\n');
      const documents = lines.map((line) => JSON.parse(line) as { verb: string; part: number });
      expect(documents.every((document) => document.verb === verb)).to.equal(true);
      expect(documents.at(-1)?.part, verb).to.equal(1);
    }
    expect(imgfs(['compare', '--progress=xml', at('a.raw'), at('a.qcow2')])).to.include({ code: 1, stdout: '' });
  });

  it('SIGUSR1 is answered by a line, and does no harm', async () => {
    fs.truncateSync(at('a.raw'), 2 ** 29);
    const signalled = await watched(['convert', '-S', '0', '-O', 'raw', at('a.raw'), at('d.raw')], (child, open) => {
      if (fs.existsSync(at('d.raw'))) return;
      if (open.some((name) => name.includes('a.raw')) && open.some((name) => name.includes('(deleted)'))) {
        child.kill('SIGUSR1');
      }
    });
    expect(signalled.code).to.equal(0);
    expect(signalled.told).to.match(/^ {4}\(\d+\.\d\d\/100%\) converting {2}\S+ \S+ of 512 MiB/);
    expect(fs.statSync(at('d.raw')).size).to.equal(2 ** 29);
  });

  describe('that checks tables for a while', () => {
    const path = (): string => at('tables.qcow2');
    const opened = (open: readonly string[]): boolean => open.includes(path());

    before(() => {
      qemuImg('create', '-q', '-f', 'qcow2', '-o', 'preallocation=metadata', path(), '256G');
    });

    after(() => fs.rmSync(path()));

    it('SIGUSR1 is answered before it ends', async () => {
      const { code, told, said } = await watched(['check', path()], (child, open) => {
        if (opened(open)) child.kill('SIGUSR1');
      });
      expect(code).to.equal(0);
      expect(said).to.match(/^No errors/);
      const parts = told.trimEnd().split('\n');
      for (const line of parts) expect(line).to.match(/^ {4}\(\d+\.\d\d\/100%\) checking/);
      expect(parts.filter((line) => !line.includes('(100.00')).length, told).to.be.above(0);
    });

    it('Ctrl-C ends it between two steps, a repair with a line that says what is left', async () => {
      const stop = (child: ChildProcess, open: readonly string[]): boolean => opened(open) && child.kill('SIGINT');
      expect(await watched(['check', path()], stop)).to.include({ signal: 'SIGINT', told: '', said: '' });
      const { signal, told } = await watched(['check', '-r', 'all', path()], stop);
      expect(signal).to.equal('SIGINT');
      expect(told).to.match(/^imgfs: warning: \S+tables\.qcow2: the repair was stopped[^\n]*\n$/);
      expect(imgfs(['check', '-q', path()])).to.include({ code: 0, stderr: '' });
    });
  });
});

interface Ended {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly said: string;
  readonly told: string;
}

/**
 * Runs `imgfs ...args`, and `look` now and then until it ends, with the names of the files it has open: by them one
 * knows that it catches signals itself. Node does at first, SIGUSR1 to start a debugger.
 */
async function watched(
  args: readonly string[],
  look: (child: ChildProcess, open: readonly string[]) => unknown,
): Promise<Ended> {
  const child = spawn(process.execPath, [MAIN, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
  const [said, told]: [Buffer[], Buffer[]] = [[], []];
  child.stdout.on('data', (chunk: Buffer) => said.push(chunk));
  child.stderr.on('data', (chunk: Buffer) => told.push(chunk));
  const looks = setInterval(() => look(child, openFiles(child.pid)), 10);
  try {
    const [code, signal] = await once(child, 'close');
    return { code, signal, said: Buffer.concat(said).toString(), told: Buffer.concat(told).toString() };
  } finally {
    clearInterval(looks);
  }
}

/** None of a process that has ended. */
function openFiles(pid: number | undefined): readonly string[] {
  try {
    return fs.readdirSync(`/proc/${pid}/fd`).map((fd) => {
      try {
        return fs.readlinkSync(`/proc/${pid}/fd/${fd}`);
      } catch {
        return '';
      }
    });
  } catch {
    return [];
  }
}
