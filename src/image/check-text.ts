/** The report of a check as `imgfs check` prints it: qemu-img's JSON keys, and its text to the letter. */
import type { CheckReport } from './check.js';

/** A check, under qemu-img's keys. What it leaves out where it is nothing, is left out here. */
export interface CheckDocument {
  readonly schema: 'imgfs.check/1';
  readonly filename: string;
  readonly format: string;
  readonly 'check-errors': number;
  readonly 'image-end-offset'?: number;
  readonly corruptions?: number;
  readonly leaks?: number;
  readonly 'corruptions-fixed'?: number;
  readonly 'leaks-fixed'?: number;
  readonly 'total-clusters'?: number;
  readonly 'allocated-clusters'?: number;
  readonly 'fragmented-clusters'?: number;
  readonly 'compressed-clusters'?: number;
}

export function checkDocument(filename: string, format: string, report: CheckReport): CheckDocument {
  const { units } = report;
  const counts = {
    'image-end-offset': report.imageEnd,
    corruptions: report.corruptions,
    leaks: report.leaks,
    'corruptions-fixed': report.corruptionsFixed,
    'leaks-fixed': report.leaksFixed,
    'total-clusters': units.total,
    'allocated-clusters': units.allocated,
    'fragmented-clusters': units.fragmented,
    'compressed-clusters': units.compressed,
  };
  return {
    schema: 'imgfs.check/1',
    filename,
    format,
    'check-errors': report.checkErrors,
    ...Object.fromEntries(Object.entries(counts).filter(([, count]) => count !== 0)),
  };
}

/** What was repaired, if anything was, and what the image is like now. */
export function checkText(report: CheckReport): string {
  const { corruptions, leaks, checkErrors, units, imageEnd } = report;
  const parts = [repairedText(report)];
  if (corruptions + leaks + checkErrors === 0) parts.push('No errors were found on the image.\n');
  if (corruptions > 0) {
    parts.push(
      `\n${corruptions} errors were found on the image.\n`,
      'Data may be corrupted, or further writes to the image may corrupt it.\n',
    );
  }
  if (leaks > 0) {
    parts.push(
      `\n${leaks} leaked clusters were found on the image.\n`,
      'This means waste of disk space, but no harm to data.\n',
    );
  }
  if (checkErrors > 0) parts.push(`\n${checkErrors} internal errors have occurred during the check.\n`);
  if (units.total > 0 && units.allocated > 0) {
    const { total, allocated, fragmented, compressed } = units;
    parts.push(
      `${allocated}/${total} = ${percent(allocated, total)} allocated, ${percent(fragmented, allocated)} fragmented, `,
      `${percent(compressed, allocated)} compressed clusters\n`,
    );
  }
  if (imageEnd > 0) parts.push(`Image end offset: ${imageEnd}\n`);
  return parts.join('');
}

function repairedText({ leaksFixed, corruptionsFixed }: CheckReport): string {
  if (leaksFixed + corruptionsFixed === 0) return '';
  return (
    'The following inconsistencies were found and repaired:\n\n' +
    `    ${leaksFixed} leaked clusters\n    ${corruptionsFixed} corruptions\n\n` +
    'Double checking the fixed image now...\n'
  );
}

/** To two digits; of two equally near, the even one, as C rounds: so 3.125 is 3.12. */
function percent(part: number, whole: number): string {
  const value = (part * 100) / whole;
  const down = (value * 8) % 4 === 1;
  return `${(down ? value - 0.001 : value).toFixed(2)}%`;
}
