/** Medians, and the table at the end. */
import type { Measure } from './measures.js';
import { RIVALS } from './servers.js';

/** The values of one measure, by the name of the server; empty where a server could not be measured. */
export interface Outcome {
  readonly measure: Measure;
  readonly values: ReadonlyMap<string, readonly number[]>;
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

/** How many times better imgfs is than its best rival: median of the rounds' own ratios. */
export function ratio(outcome: Outcome): number | undefined {
  const { better } = outcome.measure;
  const ours = outcome.values.get('imgfs') ?? [];
  const each = RIVALS.map((rival) => {
    const theirs = outcome.values.get(rival) ?? [];
    const ratios = ours.slice(0, theirs.length).map((value, n) => value / theirs[n]!);
    return summary(better === 'more' ? ratios : ratios.map((value) => 1 / value))?.median;
  });
  const known = each.filter((value) => value !== undefined);
  return known.length === 0 ? undefined : Math.min(...known);
}

/** A Markdown table, aligned so that it is read as well in a terminal. */
export function table(outcomes: readonly Outcome[], servers: readonly string[]): string {
  const head = ['measure', 'unit', ...servers, 'imgfs : best qsd', 'expected'];
  const rows = outcomes.map((outcome) => {
    const { title, unit, expected } = outcome.measure;
    const against = ratio(outcome);
    return [
      title,
      unit,
      ...servers.map((server) => cell(summary(outcome.values.get(server) ?? []))),
      against === undefined ? '-' : `${against.toFixed(2)}x`,
      expected === undefined ? '' : `${expected.toFixed(1)}x`,
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
  return `${median.toFixed(0)} (${min.toFixed(0)}..${max.toFixed(0)})`;
}

/** The same for programs. */
export function json(machine: object, outcomes: readonly Outcome[]): string {
  const measures = outcomes.map((outcome) => {
    const { id, title, unit, better, expected } = outcome.measure;
    const servers = Object.fromEntries(
      [...outcome.values].map(([server, values]) => [server, { ...summary(values), values }]),
    );
    return { id, title, unit, better, expected, ratio: ratio(outcome), servers };
  });
  return `${JSON.stringify({ schema: 'imgfs.bench/1', machine, measures }, undefined, 2)}\n`;
}
