import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect } from 'chai';
import { containerSamples } from '../support/containers.js';
import { PROTOCOL_NAMES } from './corpus.js';

const ROOT = path.join(path.dirname(fileURLToPath(import.meta.url)), '../../..');

/** All TypeScript beneath a folder. */
function sources(folder: string): string[] {
  return fs
    .readdirSync(path.join(ROOT, folder), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.ts'))
    .map((name) => path.join(ROOT, folder, name));
}

describe('SECURITY.md', () => {
  it('names only tests that exist', () => {
    const page = fs.readFileSync(path.join(ROOT, 'SECURITY.md'), 'utf8');
    const titles = sources('test')
      .map((file) => fs.readFileSync(file, 'utf8'))
      .flatMap((text) =>
        [...text.matchAll(/(?:\bit|\bdescribe)\(\s*(["'`])(.*?)\1,?\s/g)].map((found) => found[2] ?? ''),
      )
      .concat(Object.keys(PROTOCOL_NAMES))
      .concat([...containerSamples.values()].flatMap((offer) => offer.broken().map(({ name }) => name)));
    const rows = page.split('\n').filter((line) => /^\|(?! ---| advisory)/.test(line));
    const named = rows.flatMap((row) =>
      [...(row.split('|').at(-2) ?? '').matchAll(/`([^`]+)`/g)].map((found) => found[1] ?? ''),
    );
    expect(named.length).to.be.greaterThan(40);
    const missing = named.filter((name) => !titles.some((title) => title.startsWith(name)));
    expect(missing).to.deep.equal([]);
  });

  it('no-programs-run: only what mounts and unmounts, and what becomes the background process, starts a program', () => {
    const starting = sources('src').filter((file) => /from 'node:child_process'/.test(fs.readFileSync(file, 'utf8')));
    const allowed = /\/src\/(?:fuse|mount)\//;
    expect(starting.filter((file) => !allowed.test(file))).to.deep.equal([]);
  });
});
