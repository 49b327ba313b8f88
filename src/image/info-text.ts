/** An image's description for people: qemu-img's lines, and where they hide something, one of ours. */
import { printable } from '../lib/errors.js';
import { sizeText } from '../lib/size-text.js';
import type { InfoDocument, SnapshotDocument } from './describe.js';
import type { Json } from './image.js';

/** The lines of a description, each ended. */
export function infoText(document: InfoDocument): string {
  const virtual = document['virtual-size'];
  const exact = document['exact-size'];
  const lines = [
    `image: ${document.filename}`,
    `file format: ${document.format}`,
    `virtual size: ${sizeText(virtual)} (${virtual} bytes)`,
    ...(exact === virtual ? [] : [`exact size: ${exact} bytes`]),
    `disk size: ${sizeText(document['actual-size'])}`,
    ...(document.encrypted === true ? ['encrypted: yes'] : []),
    ...(document['cluster-size'] === undefined ? [] : [`cluster_size: ${document['cluster-size']}`]),
    ...(document['dirty-flag'] ? ['cleanly shut down: no'] : []),
    ...backingLines(document),
    ...snapshotLines(document.snapshots ?? []),
    ...specificLines(document),
  ];
  return lines.map((line) => `${printable(line)}\n`).join('');
}

function backingLines(document: InfoDocument): readonly string[] {
  const backing = document['backing-filename'];
  if (backing === undefined) return [];
  const full = document['full-backing-filename'];
  const format = document['backing-filename-format'];
  return [
    `backing file: ${backing}${full === undefined || full === backing ? '' : ` (actual path: ${full})`}`,
    ...(format === undefined ? [] : [`backing file format: ${format}`]),
  ];
}

/** The table of snapshots, a line each; nothing where there are none. */
export function snapshotLines(snapshots: readonly SnapshotDocument[]): readonly string[] {
  if (snapshots.length === 0) return [];
  const row = (id: string, tag: string, size: string, date: string, clock: string, icount: string) =>
    `${id.padEnd(9)} ${tag.padEnd(16)} ${size.padStart(8)}${date.padStart(20)}${clock.padStart(13)}${icount.padStart(11)}`;
  return [
    'Snapshot list:',
    row('ID', 'TAG', 'VM SIZE', 'DATE', 'VM CLOCK', 'ICOUNT'),
    ...snapshots.map((snapshot) =>
      row(
        printable(snapshot.id),
        printable(snapshot.name),
        sizeText(snapshot['vm-state-size']),
        localTime(snapshot['date-sec']),
        clockTime(snapshot),
        String(snapshot.icount ?? ''),
      ).trimEnd(),
    ),
  ];
}

function specificLines(document: InfoDocument): readonly string[] {
  const specific = document['format-specific'];
  return specific === undefined ? [] : ['Format specific information:', ...tree(specific.data, '    ')];
}

/** A value as indented lines, one for each leaf; list items are numbered. */
function tree(value: Json, indent: string): readonly string[] {
  if (typeof value !== 'object' || value === null) return [`${indent}${value}`];
  const named = !Array.isArray(value);
  return Object.entries(value).flatMap(([key, item]: [string, Json]) => {
    const label = `${indent}${named ? key.replaceAll('-', ' ') : `[${key}]`}:`;
    if (typeof item === 'object' && item !== null) return [label, ...tree(item, `${indent}    `)];
    return [`${label} ${item}`];
  });
}

function localTime(seconds: number): string {
  const date = new Date(seconds * 1000);
  const day = [date.getFullYear(), two(date.getMonth() + 1), two(date.getDate())].join('-');
  return `${day} ${[date.getHours(), date.getMinutes(), date.getSeconds()].map(two).join(':')}`;
}

function clockTime(snapshot: SnapshotDocument): string {
  const seconds = snapshot['vm-clock-sec'];
  const parts = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, seconds % 60];
  const milliseconds = Math.floor(snapshot['vm-clock-nsec'] / 1_000_000);
  return `${parts.map(two).join(':')}.${String(milliseconds).padStart(3, '0')}`;
}

function two(value: number): string {
  return String(value).padStart(2, '0');
}
