/** Unpacks gzip (RFC 1952) in pages, from any of the places that were noted when it was unpacked for the first time. */
import { corrupt, ImgfsError } from '../../lib/errors.js';
import { type InflatePlace, Inflater, type PackedSource, WINDOW } from './inflater.js';
import { decodeGzipHeader, GZIP_HEADER_MOST, GZIP_TRAILER_BYTES } from './layout.js';

/** What is unpacked at once. */
export const GZIP_PAGE = 65_536;

/** The most that is unpacked: every stream is, once, when it is opened. */
const MOST_UNPACKED = 2 ** 32;

/** Places are this far apart at first, and twice as far each time there are too many of them. */
const SPACING = 2 ** 20;
const MOST_PLACES = 512;

/** A place from which unpacking can go on, and what was unpacked before it. */
interface Place {
  readonly at: number;
  readonly stream: InflatePlace;
  /** Bytes unpacked of the member so far: a file may be several, one after the other. */
  readonly ofMember: number;
  /** Shared by threads. */
  readonly window: Uint8Array;
}

/** What is known of a packed file after it was unpacked once: structured-clone data, at most 17 MiB of windows. */
export interface GzipIndex {
  readonly size: number;
  /** In order, the first at 0. */
  readonly places: readonly Place[];
}

/** Unpacks everything once. Throws `corrupt`, and `limit` for what unpacks into more than 4 GiB. */
export function indexGzip(source: PackedSource, most = MOST_UNPACKED): GzipIndex {
  const pages = new Pages(source);
  let places: Place[] = [];
  let spacing = SPACING;
  for (;;) {
    const { at } = pages;
    if (at > most) {
      throw new ImgfsError('limit', `${source.name} unpacks into more than ${most} bytes`, {
        hint: 'unpack it with gunzip first',
      });
    }
    if (at % spacing === 0) places.push(pages.place());
    if (places.length > MOST_PLACES) {
      spacing *= 2;
      places = places.filter((place) => place.at % spacing === 0);
    }
    if (pages.next().length < GZIP_PAGE) return { size: pages.at, places };
  }
}

/** A walk over the pages of a packed file. */
export class Pages {
  /** Where the next page begins. */
  at = 0;
  private readonly inflater: Inflater;
  /** The window, then the page. */
  private readonly buffer = new Uint8Array(WINDOW + GZIP_PAGE);
  private ofMember = 0;
  private ended = false;

  constructor(private readonly source: PackedSource) {
    this.inflater = new Inflater(source);
    if (!this.beginMember(0)) throw corrupt(`${source.name} is not packed by gzip`);
  }

  place(): Place {
    const window = new Uint8Array(new SharedArrayBuffer(WINDOW));
    window.set(this.buffer.subarray(0, WINDOW));
    return { at: this.at, stream: this.inflater.place(), ofMember: this.ofMember, window };
  }

  seek({ at, stream, ofMember, window }: Place): void {
    this.at = at;
    this.ofMember = ofMember;
    this.ended = false;
    this.buffer.set(window, 0);
    this.inflater.seek(stream);
  }

  /** The next page, good until the one after it; shorter than a page, perhaps empty, only at the end. */
  next(): Uint8Array {
    const { buffer } = this;
    let filled = WINDOW;
    while (filled < buffer.length && !this.ended) {
      const end = this.inflater.fill(buffer, filled, buffer.length, Math.min(WINDOW + GZIP_PAGE, this.ofMember));
      this.ofMember += end - filled;
      filled = end;
      if (filled < buffer.length) this.endMember();
    }
    const page = buffer.slice(WINDOW, filled);
    this.at += page.length;
    buffer.copyWithin(0, filled - WINDOW, filled);
    return page;
  }

  /** The stream of a member has ended: another may follow, or nothing but padding. */
  private endMember(): void {
    const at = this.inflater.endAt();
    const trailer = Buffer.alloc(GZIP_TRAILER_BYTES);
    if (this.source.read(trailer, at) < trailer.length)
      throw corrupt(`${this.source.name} ends inside its gzip trailer`);
    if (trailer.readUInt32LE(4) !== this.ofMember % 2 ** 32) {
      throw corrupt(`${this.source.name}: the gzip trailer has another length than the stream`);
    }
    this.ended = !this.beginMember(at + trailer.length);
  }

  /** False where no member begins there. */
  private beginMember(at: number): boolean {
    const bytes = Buffer.alloc(GZIP_HEADER_MOST);
    const header = decodeGzipHeader(bytes.subarray(0, this.source.read(bytes, at)), this.source.name);
    if (header === undefined) return false;
    this.ofMember = 0;
    this.inflater.seek({ bit: (at + header.length) * 8, block: { kind: 'none' }, repeat: 0, distance: 0 });
    return true;
  }
}
