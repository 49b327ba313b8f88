import { expect } from 'chai';
import type { Snapshot } from '../../src/image/image.js';
import { sharedOwner, writableMode } from '../../src/tree/modes.js';
import { escapeName, unescapeName } from '../../src/tree/names.js';
import { Numbering } from '../../src/tree/numbering.js';
import { buildTree, type TreeImage } from '../../src/tree/tree.js';
import { Random } from '../support/seed.js';

const OWNER = { uid: 1, gid: 1, mode: 0o644, mtimeSeconds: 0, mtimeNanoseconds: 0 };

function snapshot(id: string, name: string): Snapshot {
  const nameBytes = Buffer.from(name);
  const times = { seconds: 0, nanoseconds: 0, vmClockNanoseconds: 0n };
  return { id, name, nameBytes, ...times, vmStateSize: 0, diskSize: 512 };
}

function tree(numbers: Numbering, ...snapshots: readonly Snapshot[]): ReadonlyMap<string, number> {
  const image: TreeImage = {
    ...{ fileName: 'disk.qcow2', owner: OWNER, size: 512, writable: true, shown: undefined, layers: [] },
    ...{ holdsSnapshots: true, changesSnapshots: true, snapshots },
  };
  const { nodes } = buildTree([image], OWNER, numbers);
  return new Map(Array.from(nodes.values(), ({ name, ino }) => [name, ino]));
}

describe('names of snapshots', () => {
  it('are told back from the names of their files, whatever their bytes', () => {
    const random = new Random();
    for (let n = 0; n < 2000; n++) {
      const bytes = random.bytes(random.below(12));
      if (n % 2 === 0) for (let at = 0; at < bytes.length; at++) bytes[at] = 32 + (bytes[at]! % 90);
      expect(Buffer.from(unescapeName(escapeName(bytes)) ?? []).equals(bytes), escapeName(bytes)).to.equal(true);
    }
    for (const name of ['.', '..', '%', 'a/b', '%2E', 'gr\u00f6\u00dfe']) {
      expect(Buffer.from(unescapeName(escapeName(Buffer.from(name))) ?? []).toString()).to.equal(name);
    }
  });

  it('have one way only to be written as a file name', () => {
    for (const name of ['', '%2f', '%zz', 'a%', '%41', '.', '..', 'a/b', '%C3%B6', '\n']) {
      expect(unescapeName(name), name).to.equal(undefined);
    }
  });
});

describe('inode numbers', () => {
  it('stay when a tree is made anew, follow a renamed snapshot, and are never used again', () => {
    const numbers = new Numbering();
    const first = tree(numbers, snapshot('1', 'a'), snapshot('2', 'b'));
    const second = tree(numbers, snapshot('1', 'renamed'));
    expect(second.get('')).to.equal(1);
    expect(second.get('disk.raw')).to.equal(first.get('disk.raw'));
    expect(second.get('renamed.raw')).to.equal(first.get('a.raw'));
    const third = tree(numbers, snapshot('1', 'renamed'), snapshot('2', 'b'));
    expect([...first.values()]).not.to.include(third.get('b.raw'));
  });
});

describe('modes', () => {
  it('let those write who may read, and nobody else', () => {
    expect([0o644, 0o666, 0o622, 0o444, 0o755].map(writableMode)).to.deep.equal([0o644, 0o666, 0o600, 0o444, 0o644]);
    const secret = { ...OWNER, mode: 0o600 };
    expect(sharedOwner([{ ...OWNER, mode: 0o666 }, secret]).mode).to.equal(0o600);
  });
});
