import type { BitmapAction, BitmapBits, Bitmaps } from '../../../image/bitmaps.js';
import type { OpenContext } from '../../../image/format.js';
import type { DirtyBitmap } from '../../../image/image.js';
import type { Limits } from '../../../image/limits.js';
import { isPowerOfTwo } from '../../../lib/bits.js';
import { ImgfsError } from '../../../lib/errors.js';
import type { Storage } from '../../../storage/storage.js';
import { changedBitmap, encodeBitmap, encodeBitmapsExtension, type HeaderChanges } from '../encode.js';
import { type Header, readHeader } from '../header.js';
import { AUTOCLEAR, EXTENSION, keptFeatures, MAX, withFeature } from '../layout.js';
import { putStart, restoreNames } from '../write/start.js';
import { openForStructure } from '../write/structure.js';
import type { Transaction } from '../write/transaction.js';
import type { Volume } from '../write/volume.js';
import { BitmapContent, removeBitmap } from './content.js';
import { type BitmapEntry, readBitmaps } from './directory.js';

const GRANULARITY = { least: 512, most: 2 ** 31 } as const;
/** QEMU's choice: the cluster size, within these. */
const USUAL_GRANULARITY = { least: 4096, most: 65_536 } as const;

/** qcow2's persistent bitmaps; see this folder's part of the README for the order of writes. */
export const bitmaps: Bitmaps = { list, bits, change };

function list(storage: Storage, limits: Limits): readonly DirtyBitmap[] {
  return readBitmaps(storage, headerOf(storage, limits), limits);
}

function bits(storage: Storage, limits: Limits, name: string): BitmapBits {
  const header = headerOf(storage, limits);
  const entry = readBitmaps(storage, header, limits).find((one) => one.name === name);
  if (entry === undefined) throw missing(storage, name);
  assertTrusted(storage, entry);
  return new BitmapContent(storage, header, limits, name, entry.granularity, entry);
}

function change(storage: Storage, context: OpenContext, name: string, actions: readonly BitmapAction[]): void {
  headerOf(storage, context.limits);
  const volume = openForStructure(storage, context);
  const drafts = new Drafts(volume);
  for (const action of actions) drafts.perform(name, action);
  const { extensions } = volume.live.now;
  volume.change((transaction) => drafts.put(transaction));
  restoreNames(volume, extensions.all);
}

function headerOf(storage: Storage, limits: Limits): Header {
  const header = readHeader(storage, limits);
  if (header.version === 3) return header;
  throw new ImgfsError('unsupported', `${storage.name}: a version 2 image has no bitmaps`, {
    hint: 'imgfs amend -o compat=1.1 makes it version 3',
  });
}

/** A bitmap as it shall be; without `entry` it is new. */
interface Draft {
  readonly name: string;
  readonly granularity: number;
  readonly inUse: boolean;
  auto: boolean;
  readonly entry: BitmapEntry | undefined;
  readonly content: () => BitmapContent;
}

/** All bitmaps of an image as they shall be. Nothing is written before `put`. */
class Drafts {
  private readonly all: Draft[];
  private readonly removed: BitmapEntry[] = [];

  constructor(private readonly volume: Volume) {
    const { storage, live, limits } = volume;
    this.all = readBitmaps(storage, live.now, limits).map((entry) => this.draft(entry, entry));
  }

  perform(name: string, action: BitmapAction): void {
    const { storage } = this.volume;
    if (action.kind === 'add') {
      this.all.push(this.added(name, action.granularity));
      return;
    }
    const draft = this.find(name);
    if (action.kind === 'remove') {
      this.all.splice(this.all.indexOf(draft), 1);
      if (draft.entry !== undefined) this.removed.push(draft.entry);
      return;
    }
    assertTrusted(storage, draft);
    if (action.kind === 'enable') draft.auto = true;
    if (action.kind === 'disable') draft.auto = false;
    if (action.kind === 'clear') draft.content().clear();
    if (action.kind === 'merge') this.merge(draft, action.source);
  }

  /** Writes all that is changed, and the directory, elsewhere. Returns what the header must say then. */
  put(change: Transaction): HeaderChanges {
    const { live } = this.volume;
    const { extensions, bitmapsValid, autoclear } = live.now;
    const claim = bitmapsValid ? extensions.bitmaps : undefined;
    for (const entry of this.removed) removeBitmap(this.volume, change, entry);
    const directory = Buffer.concat(this.all.map((draft) => this.entryOf(draft, change)));
    if (directory.length > MAX.bitmapDirectoryBytes) throw this.tooMany();
    if (claim !== undefined) change.addTable(claim.at, claim.bytes, -1);
    const count = this.all.length;
    const others = extensions.all.filter(({ type }) => type !== EXTENSION.bitmaps);
    const own =
      count === 0
        ? []
        : [
            {
              type: EXTENSION.bitmaps,
              data: encodeBitmapsExtension({ count, bytes: directory.length, at: change.put(directory) }),
            },
          ];
    const kept = keptFeatures(autoclear, [AUTOCLEAR.dataFileRaw]);
    return {
      ...putStart(this.volume, [...own, ...others]),
      autoclear: withFeature(kept, AUTOCLEAR.bitmaps, count > 0),
    };
  }

  private merge(draft: Draft, source: string | BitmapBits): void {
    const { storage, live } = this.volume;
    const found = typeof source === 'string' ? this.find(source) : undefined;
    if (found !== undefined) assertTrusted(storage, found);
    const merged = found?.content() ?? source;
    if (merged === draft.content() || typeof merged === 'string') return;
    if (merged.size !== live.now.size) {
      throw new ImgfsError('usage', `bitmap "${merged.name}" is of a disk of another size`);
    }
    draft.content().merge(merged.ranges());
  }

  private added(name: string, granularity: number | undefined): Draft {
    const { storage, live } = this.volume;
    const { clusterSize } = live.now;
    const bytes = Buffer.byteLength(name);
    if (bytes === 0) throw new ImgfsError('usage', 'the name of a bitmap is not empty');
    if (bytes > MAX.bitmapNameBytes) {
      throw new ImgfsError('limit', `the name of a bitmap has at most ${MAX.bitmapNameBytes} bytes`);
    }
    if (this.all.some((draft) => draft.name === name)) {
      throw new ImgfsError('exists', `${storage.name} has a bitmap "${name}" already`);
    }
    if (this.all.length >= MAX.bitmaps) throw this.tooMany();
    const chosen = granularity ?? Math.min(USUAL_GRANULARITY.most, Math.max(USUAL_GRANULARITY.least, clusterSize));
    if (!isPowerOfTwo(chosen) || chosen < GRANULARITY.least || chosen > GRANULARITY.most) {
      throw new ImgfsError('usage', `a granularity of ${chosen} is impossible`, {
        hint: `a power of two from ${GRANULARITY.least} to ${GRANULARITY.most}`,
      });
    }
    const draft = this.draft({ name, granularity: chosen, inUse: false, auto: true }, undefined);
    // Whether it is too large.
    draft.content();
    return draft;
  }

  private draft(bitmap: DirtyBitmap, entry: BitmapEntry | undefined): Draft {
    const { storage, live, limits } = this.volume;
    const { name, granularity, inUse, auto } = bitmap;
    let content: BitmapContent | undefined;
    const load = (): BitmapContent => {
      content ??= new BitmapContent(storage, live.now, limits, name, granularity, entry);
      return content;
    };
    return { name, granularity, inUse, auto, entry, content: load };
  }

  private entryOf(draft: Draft, change: Transaction): Buffer {
    const { entry, auto } = draft;
    if (entry === undefined) {
      const content = draft.content();
      return encodeBitmap({ ...draft, tableAt: content.put(change, undefined), tableEntries: content.tableEntries });
    }
    // One that cannot be trusted may have a table that cannot be read.
    const changed = !draft.inUse && draft.content().isChanged;
    const tableAt = changed ? draft.content().put(change, entry) : entry.tableAt;
    return changedBitmap(entry.stored, { tableAt, tableEntries: entry.tableEntries, auto });
  }

  private find(name: string): Draft {
    const found = this.all.find((draft) => draft.name === name);
    if (found === undefined) throw missing(this.volume.storage, name);
    return found;
  }

  private tooMany(): ImgfsError {
    return new ImgfsError('limit', `${this.volume.storage.name}: it has all the bitmaps it can have`);
  }
}

function assertTrusted(storage: Storage, { name, inUse }: Pick<DirtyBitmap, 'name' | 'inUse'>): void {
  if (!inUse) return;
  throw new ImgfsError('corrupt', `${storage.name}: bitmap "${name}" does not tell what changed`, {
    hint: 'whoever used it last did not finish: it can only be removed',
  });
}

function missing(storage: Storage, name: string): ImgfsError {
  return new ImgfsError('missing', `${storage.name} has no bitmap "${name}"`);
}
