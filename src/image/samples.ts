/**
 * What a format offers the test suites that run over all formats: the constant `samples` of its `samples.ts`. The
 * suites find it by the format's name; nothing of the program itself uses it.
 */
import type { Reason } from '../lib/errors.js';

/** What opens every encrypted sample. */
export const SAMPLE_PASSPHRASE = 'correct horse battery staple';

/** A file of a sample. */
export interface SampleFile {
  /** As the image names it; for the image itself, any name the format accepts. */
  readonly name: string;
  /** `base` is an image below that nothing may write to; `part` holds data or tables of the image itself. */
  readonly role: 'image' | 'base' | 'part';
  /** Where it is an image itself. */
  readonly format?: string;
  /** Made when it is needed, the same each time. */
  bytes(): Uint8Array;
}

/** An image that must open, and the bytes its guest must see. */
export interface GoodSample {
  readonly name: string;
  readonly image: Uint8Array;
  /** What the image names. */
  readonly beside?: readonly SampleFile[];
  readonly disk: Uint8Array;
  /** Snapshots by id, with the disk and the machine state each must show. */
  readonly snapshots: readonly { readonly id: string; readonly disk: Uint8Array; readonly vmState: Uint8Array }[];
}

/** An image that must be refused: when it is opened, when guest offset 0 is read, or when more is asked of it. */
export interface BrokenSample {
  readonly name: string;
  readonly image: Uint8Array;
  readonly beside?: readonly SampleFile[];
  readonly fails: 'open' | 'read' | 'snapshots' | 'info';
  readonly reason: Reason;
}

/** A number in an image. */
export interface FieldPlace {
  readonly name: string;
  readonly at: number;
  readonly bytes: 1 | 2 | 4 | 8;
  /** Big-endian unless this is set. */
  readonly littleEndian?: true;
  /**
   * The guest bytes that may change with it (none: length 0). The rest of the disk must read as before, or the image
   * be refused. Undefined where the field decides about the whole disk.
   */
  readonly touches?: { readonly start: number; readonly length: number };
}

/** A good image, what it reads as, and its fields. */
export interface Specimen {
  readonly name: string;
  readonly image: Uint8Array;
  readonly beside?: readonly SampleFile[];
  readonly disk: Uint8Array;
  readonly fields: readonly FieldPlace[];
  /** Why QEMU is not asked about its mutants. */
  readonly notForQemu?: string;
  /** Why what QEMU reads of this mutant is wrong; undefined where it should be right. */
  misreadByQemu?(mutant: Uint8Array): string | undefined;
}

/**
 * What qemu-img can say about an image: nothing; what it reads; also whether it is sound after a clean close; also
 * whether it is sound after a crash.
 */
export type QemuJudge = 'nothing' | 'reads' | 'checks closed' | 'checks';

/** An image that workloads begin with: crash, fault and model runs are made from it. */
export interface WritableSample {
  readonly name: string;
  /** Bytes the format allocates at once; lengths and places are chosen around it. */
  readonly unit: number;
  /** The image first, its disk `units` units long. Some of it should hold data, zeros and whatever the format knows. */
  files(units: number): readonly SampleFile[];
  /** Units of the disk in crash and fault runs (an even number, 16 or more; 16 unless told), and in model runs (64 unless told). */
  readonly units?: number;
  readonly modelUnits?: number;
  readonly snapshots?: true;
  /** Units can be stored packed. */
  readonly packs?: true;
  /** Whether the disk can become larger and smaller, or only larger. */
  readonly resize?: 'both' | 'grow';
  /** Set where the file's length is the disk's: while it grows a crash may leave any size between, and there anything. */
  readonly growsGradually?: true;
  readonly qemu: QemuJudge;
  /** Why some space is lost for good when this is written, even where nothing goes wrong. Otherwise none may be. */
  readonly loses?: string;
  /** Set where half a sector reads as noise (encrypted): failing hosts then write whole ones. */
  readonly wholeSectors?: true;
  /** For samples with more or larger crash states than others: only one in so many is looked at. */
  readonly oneIn?: number;
}

export interface FormatSamples {
  /** One image per variant of the format. */
  good(): readonly GoodSample[];
  broken(): readonly BrokenSample[];
  /** Good images with a table of their fields. */
  specimens(): readonly Specimen[];
  /** For formats that can be written. Those whose workloads are written by hand in the suites leave it out. */
  writable?(): readonly WritableSample[];
  /** Why truncated images are not damaged ones. */
  readonly wholeAtAnyLength?: string;
}

/** A container that must open, and what must be found in it. */
export interface GoodContainer {
  readonly name: string;
  /** The name its file needs, if any. */
  readonly fileName: string;
  readonly container: Uint8Array;
  readonly beside?: readonly SampleFile[];
  /** The stored bytes of each disk, unpacked. */
  readonly disks: readonly { readonly name: string; readonly bytes: Uint8Array }[];
}

/** A container that must be refused when it is opened. */
export interface BrokenContainer extends Omit<GoodContainer, 'disks'> {
  readonly reason: Reason;
}

export interface ContainerSamples {
  good(): readonly GoodContainer[];
  broken(): readonly BrokenContainer[];
}
