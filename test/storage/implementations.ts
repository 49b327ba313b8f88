/** Every storage there is, made over fresh places, for the tests that all of them must pass. */
import fs from 'node:fs';
import path from 'node:path';
import { fileStorage } from '../../src/storage/direct.js';
import { Faults } from '../../src/storage/faults.js';
import { FileStorage } from '../../src/storage/file.js';
import { Journal } from '../../src/storage/journal.js';
import { MemoryStorage } from '../../src/storage/memory.js';
import { SliceStorage } from '../../src/storage/slice.js';
import type { Storage } from '../../src/storage/storage.js';
import { noLoopDevices, withLoopDevice, withScratch } from '../support/scratch.js';

export interface Implementation {
  readonly name: string;
  /** Why it cannot be tested here. */
  readonly unavailable?: string | undefined;
  /** A device or slice has a length of its own. */
  readonly fixedSize: boolean;
  /** Runs `body` with a writable storage of `bytes` and cleans up. */
  with(bytes: Buffer, body: (storage: Storage) => void): void;
}

/** Opens `file` for reading and writing as a FileStorage that owns the descriptor. */
export function openFile(file: string, flags = 'r+'): FileStorage {
  const fd = fs.openSync(file, flags);
  const storage = new FileStorage({ fd, name: file, size: fs.fstatSync(fd).size, writable: flags !== 'r' }, () =>
    fs.closeSync(fd),
  );
  return storage;
}

function withFile(bytes: Buffer, body: (storage: Storage, file: string) => void): void {
  withScratch('storage', (directory) => {
    const file = path.join(directory, 'bytes');
    fs.writeFileSync(file, bytes);
    const storage = openFile(file);
    try {
      body(storage, file);
    } finally {
      storage.close();
    }
  });
}

/** The same file opened with O_DIRECT. */
function withDirectFile(bytes: Buffer, body: (storage: Storage) => void): void {
  withFile(bytes, (_storage, file) => {
    const fd = fs.openSync(file, fs.constants.O_RDWR | fs.constants.O_DIRECT);
    const open = { fd, name: file, size: fs.fstatSync(fd).size, writable: true, direct: true };
    const storage = fileStorage(open, () => fs.closeSync(fd));
    try {
      body(storage);
    } finally {
      storage.close();
    }
  });
}

function noDirectIo(): string | undefined {
  return withScratch('direct', (directory) => {
    const file = path.join(directory, 'probe');
    fs.writeFileSync(file, '');
    try {
      fs.closeSync(fs.openSync(file, fs.constants.O_RDWR | fs.constants.O_DIRECT));
      return undefined;
    } catch {
      return 'the temporary directory has no direct I/O';
    }
  });
}

/** A loop device of whole sectors: what is not a multiple of 512 is cut by the kernel. */
function withDevice(bytes: Buffer, body: (storage: Storage) => void): void {
  withFile(bytes, (_storage, file) => {
    withLoopDevice(file, [], (device) => {
      const fd = fs.openSync(device, 'r+');
      const storage = new FileStorage({ fd, name: device, size: bytes.length, writable: true }, () => fs.closeSync(fd));
      try {
        body(storage);
      } finally {
        storage.close();
      }
    });
  });
}

function inMemory(name: string, fixedSize: boolean, wrap: (memory: MemoryStorage) => Storage): Implementation {
  return { name, fixedSize, with: (bytes, body) => body(wrap(MemoryStorage.from(bytes))) };
}

export const implementations: readonly Implementation[] = [
  inMemory('memory', false, (memory) => memory),
  inMemory('memory, copied', false, (memory) => memory.copy()),
  { name: 'file', fixedSize: false, with: withFile },
  { name: 'file past the page cache', fixedSize: false, unavailable: noDirectIo(), with: withDirectFile },
  { name: 'block device', fixedSize: true, unavailable: noLoopDevices(), with: withDevice },
  inMemory('slice', true, (memory) => {
    const wide = new MemoryStorage('wide');
    wide.write(Buffer.alloc(1000, 0xee), 0);
    wide.write(memory.bytes(), 1000);
    wide.write(Buffer.alloc(1000, 0xee), 1000 + memory.size());
    return new SliceStorage(wide, 1000, memory.size());
  }),
  inMemory('journal', false, (memory) => new Journal().record(memory)),
  inMemory('faults', false, (memory) => new Faults().inject(memory)),
];
