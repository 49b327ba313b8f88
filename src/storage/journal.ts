import type { MemoryStorage } from './memory.js';
import type { Storage, StorageExtent } from './storage.js';

/** One recorded change of one storage. `file` is the number the storage was given when it joined the journal. */
export type JournalEntry =
  | { readonly kind: 'write'; readonly file: number; readonly at: number; readonly bytes: Uint8Array }
  | { readonly kind: 'resize'; readonly file: number; readonly size: number }
  | { readonly kind: 'discard'; readonly file: number; readonly at: number; readonly length: number }
  | { readonly kind: 'flush'; readonly file: number };

/**
 * Records what one or several storages were asked to change, in one order. A flush orders only its own file: what
 * lies between two files has to be ordered by flushing the first, and the journal shows whether that was done.
 */
export class Journal {
  private readonly recorded: JournalEntry[] = [];
  private files = 0;

  /** In the order in which the calls returned; a call that threw is not recorded. */
  get entries(): readonly JournalEntry[] {
    return this.recorded;
  }

  /** A storage over `below` whose changes are recorded under the next free file number. Closing it closes `below`. */
  record(below: Storage): Storage {
    const file = this.files++;
    return new JournalStorage(below, file, (entry) => this.recorded.push(entry));
  }
}

class JournalStorage implements Storage {
  constructor(
    private readonly below: Storage,
    private readonly file: number,
    private readonly note: (entry: JournalEntry) => void,
  ) {}

  get name(): string {
    return this.below.name;
  }

  get writable(): boolean {
    return this.below.writable;
  }

  get unbuffered(): boolean {
    return this.below.unbuffered === true;
  }

  size(): number {
    return this.below.size();
  }

  read(into: Uint8Array, at: number): number {
    return this.below.read(into, at);
  }

  write(from: Uint8Array, at: number): void {
    this.below.write(from, at);
    // A Buffer's own slice would share the bytes.
    this.note({ kind: 'write', file: this.file, at, bytes: new Uint8Array(from) });
  }

  flush(): void {
    this.below.flush();
    this.note({ kind: 'flush', file: this.file });
  }

  resize(size: number): void {
    this.below.resize(size);
    this.note({ kind: 'resize', file: this.file, size });
  }

  discard(at: number, length: number): void {
    this.below.discard(at, length);
    this.note({ kind: 'discard', file: this.file, at, length });
  }

  /** Of what it does a crash can take back the length only: the bytes are zeros with space and without. */
  allocate(at: number, length: number): void {
    const before = this.below.size();
    this.below.allocate(at, length);
    if (at + length > before) this.note({ kind: 'resize', file: this.file, size: at + length });
  }

  extent(at: number): StorageExtent {
    return this.below.extent(at);
  }

  allocated(): number {
    return this.below.allocated();
  }

  close(): void {
    this.below.close();
  }
}

/**
 * Applies entries, in the order given, to `files` (indexed by file number): any prefix or subset of a journal over
 * copies of what the storages held before is a state that a power cut may leave. Flushes change nothing.
 */
export function replay(entries: Iterable<JournalEntry>, files: readonly MemoryStorage[]): void {
  for (const entry of entries) {
    const file = files[entry.file];
    if (file === undefined) throw new RangeError(`no file ${entry.file} to replay onto`);
    if (entry.kind === 'write') file.write(entry.bytes, entry.at);
    else if (entry.kind === 'resize') file.resize(entry.size);
    else if (entry.kind === 'discard') file.discard(entry.at, entry.length);
  }
}

/**
 * The parts of a write that a medium with sectors of `sector` bytes stores whole or not at all: cut where the file's
 * offset is a multiple of it. Any subset of the parts is what a torn write may leave.
 */
export function tear(entry: JournalEntry & { kind: 'write' }, sector = 512): readonly JournalEntry[] {
  const parts: JournalEntry[] = [];
  for (let done = 0; done < entry.bytes.length; ) {
    const step = Math.min(sector - ((entry.at + done) % sector), entry.bytes.length - done);
    parts.push({ ...entry, at: entry.at + done, bytes: entry.bytes.subarray(done, done + step) });
    done += step;
  }
  return parts;
}
