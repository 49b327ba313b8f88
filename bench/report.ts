/** Medians, and the tables at the end. */
import type { Group, Outcome } from './contest.js';

/** A group, and what came out of the measures of it that were asked for. */
export interface Result {
  readonly group: Group;
  readonly outcomes: readonly Outcome[];
}

interface Summary {
  readonly median: number;
  readonly min: number;
  readonly max: number;
}

export function summary(values: readonly number[]): Summary | undefined {
  if (values.length === 0) return undefined;
  const sorted = values.toSorted((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  const median = sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
  return { median, min: sorted[0]!, max: sorted[sorted.length - 1]! };
}

/** How many times better ours is than the best rival: median of the rounds' own ratios. */
export function ratio({ ours, rivals }: Group, { measure, values }: Outcome): number | undefined {
  const own = values.get(ours) ?? [];
  const each = rivals.map((rival) => {
    const theirs = values.get(rival) ?? [];
    const ratios = own.slice(0, theirs.length).map((value, n) => value / theirs[n]!);
    return summary(measure.better === 'more' ? ratios : ratios.map((value) => 1 / value))?.median;
  });
  const known = each.filter((value) => value !== undefined);
  return known.length === 0 ? undefined : Math.min(...known);
}

/** A Markdown table, aligned so that it is read as well in a terminal. */
export function table({ group, outcomes }: Result): string {
  const { contestants, ours, rivals } = group;
  const against = rivals.length === 1 ? rivals[0]! : `best of ${rivals.join(', ')}`;
  const head = ['measure', 'unit', ...contestants, `${ours} : ${against}`, 'expected'];
  const rows = outcomes.map((outcome) => {
    const { title, unit, expected } = outcome.measure;
    const better = ratio(group, outcome);
    return [
      title,
      unit,
      ...contestants.map((name) => cell(summary(outcome.values.get(name) ?? []))),
      better === undefined ? '-' : `${better.toFixed(2)}x`,
      expected === undefined ? '' : `${expected}x`,
    ];
  });
  const all = [head, ...rows];
  const widths = head.map((_, column) => Math.max(...all.map((row) => row[column]!.length)));
  const line = (row: readonly string[]): string => `| ${row.map((text, n) => text.padEnd(widths[n]!)).join(' | ')} |`;
  const rule = `|${widths.map((width) => '-'.repeat(width + 2)).join('|')}|`;
  return [line(head), rule, ...rows.map(line)].join('\n');
}

function cell(values: Summary | undefined): string {
  if (values === undefined) return '-';
  const { median, min, max } = values;
  return `${short(median)} (${short(min)}..${short(max)})`;
}

/** Three digits at least. */
function short(value: number): string {
  return value.toFixed(value < 10 ? 2 : value < 100 ? 1 : 0);
}

/** The same for programs. */
export function json(machine: object, results: readonly Result[]): string {
  const groups = results.map(({ group, outcomes }) => {
    const { title, about, ours, rivals } = group;
    const measures = outcomes.map((outcome) => {
      const contestants = Object.fromEntries(
        [...outcome.values].map(([name, values]) => [name, { ...summary(values), values }]),
      );
      return { ...outcome.measure, ratio: ratio(group, outcome), contestants };
    });
    return { title, about, ours, rivals, measures };
  });
  return `${JSON.stringify({ schema: 'imgfs.bench/2', machine, groups }, undefined, 2)}\n`;
}
