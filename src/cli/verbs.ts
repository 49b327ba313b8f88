/** Every verb there is, in the order of the help: one line each. */
import type { VerbEntry } from './verb.js';

export const verbs: readonly VerbEntry[] = [
  { name: 'formats', summary: 'list the formats', load: async () => (await import('./formats.js')).verb },
];
