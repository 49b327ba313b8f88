/** The summary of a crash run, a line per workload. */
import { NOTHING, sum, type Tally } from './runner.js';

const COLUMNS = ['states', 'qemu-img', 'corrupt', 'lost', 'stray', 'leak KiB'];

/** Lines to print; workloads of one family (the word before the colon) past `most` lines are summed up. */
export function summary(tallies: ReadonlyMap<string, Tally>): readonly string[] {
  const rows = new Map<string, Tally>();
  for (const [name, tally] of tallies) {
    const row = name.startsWith('short: ') ? 'short: all' : name;
    rows.set(row, sum(rows.get(row) ?? NOTHING, tally));
  }
  const all = [...rows.values()].reduce(sum, NOTHING);
  return [line('workload', COLUMNS), ...[...rows].map(([name, tally]) => row(name, tally)), row('all', all)];
}

function row(name: string, { states, byQemu, corrupt, lost, stray, leaked }: Tally): string {
  return line(name, [states, byQemu, corrupt, lost, stray, Math.ceil(leaked / 1024)].map(String));
}

function line(name: string, cells: readonly string[]): string {
  return name.padEnd(44) + cells.map((cell) => cell.padStart(10)).join('');
}
