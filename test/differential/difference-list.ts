import { DIFFERENCES } from './differences.js';

/** The README's list of differences, in Markdown. */
export function differenceList(): string {
  return DIFFERENCES.map(({ what, why }) => `- ${what}: ${why}.\n`).join('');
}
