/** Tables of what each format can, all made from the registry so that none can disagree with it. */
import type { ContainerFormat, Format, ImageFormat } from '../image/format.js';

const ABILITIES = ['write', 'create', 'snapshots', 'resize'] as const;

/** What imgfs can do with images of this format, in words. Containers are made and changed as a whole, by verbs of their own. */
export function abilities(format: ImageFormat | ContainerFormat): readonly string[] {
  return ['read', ...ABILITIES.filter((ability) => format.kind === 'image' && format.can[ability])];
}

/** Rows as columns of text, each as wide as its widest cell. */
export function table(rows: readonly (readonly string[])[]): string {
  const widths: number[] = [];
  for (const row of rows) {
    for (const [column, cell] of row.entries()) widths[column] = Math.max(widths[column] ?? 0, cell.length);
  }
  const line = (row: readonly string[]) => row.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join('  ');
  return rows.map((row) => `${line(row).trimEnd()}\n`).join('');
}

/** The support table of the README, in Markdown. */
export function supportTable(formats: readonly Format[]): string {
  const head = ['format', 'what it is', 'file names', 'read', ...ABILITIES];
  const rows = formats.map((format) => [
    `\`${format.name}\``,
    format.summary,
    format.extensions.map((extension) => `\`${extension}\``).join(' '),
    ...(format.kind === 'known'
      ? ['recognised only', ...ABILITIES.map(() => '')]
      : ['yes', ...ABILITIES.map((ability) => (abilities(format).includes(ability) ? 'yes' : ''))]),
  ]);
  const line = (cells: readonly string[]) => `| ${cells.join(' | ')} |`;
  return `${[line(head), line(head.map(() => '---')), ...rows.map(line)].join('\n')}\n`;
}
