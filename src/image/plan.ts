/** An image on its way to another thread, which opens it again from descriptors alone, with no path and no policy. */
import { randomBytes } from '../lib/random.js';
import { fileStorage } from '../storage/direct.js';
import type { OpenFile } from '../storage/file.js';
import type { Storage } from '../storage/storage.js';
import type { HostFile } from './files.js';
import type { Format, Reference } from './format.js';
import { GuessedRaw } from './guessed.js';
import type { Image } from './image.js';
import type { ImageKey } from './keys.js';
import type { Limits } from './limits.js';
import { type MemberPlan, reopenMember } from './members.js';
import { formatNamed } from './probe.js';
import { SharedImage } from './shared-image.js';
import { Sharing } from './sharing.js';

/** How to open an image again elsewhere: structured-clone data. Descriptors stay with the main thread's image. */
export interface ImagePlan {
  readonly format: string;
  readonly file: OpenFile;
  /** Where in files it lies, of a disk in a container; by default it is all of its file. */
  readonly within?: MemberPlan | undefined;
  /** Nothing but a lack of other claims says that it is raw. */
  readonly guessedRaw: boolean;
  /** Not the disk itself but this snapshot of it. */
  readonly snapshot?: string | undefined;
  /** What its threads share, where it is written by several. */
  readonly sharing: SharedArrayBuffer | undefined;
  readonly limits: Limits;
  /** The key of an encrypted image. The main thread's image wipes it when it closes. */
  readonly key?: SharedArrayBuffer | undefined;
  readonly images: Readonly<Record<string, ImagePlan>>;
  readonly storages: Readonly<Record<string, OpenFile>>;
}

/** Opens an image again from a plan made by `openImage`, whose image must stay open meanwhile. */
export function reopenImage(plan: ImagePlan, formats: readonly Format[]): Image {
  const format = formatNamed(formats, plan.format);
  if (format.kind !== 'image') throw new Error(`${plan.format} cannot be opened`);
  const planned = <T>(table: Readonly<Record<string, T>>, reference: Reference): T => {
    const found = table[keyOf(reference)];
    if (found === undefined) throw new Error(`${reference.name} is not in the plan`);
    return found;
  };
  const sharing = plan.sharing === undefined ? undefined : new Sharing(plan.sharing);
  const file = plan.within === undefined ? fileStorage(plan.file) : reopenMember(plan.within);
  const storage = guarded(file, plan.guessedRaw, formats);
  const image = format.open(storage, {
    writable: plan.file.writable,
    limits: plan.limits,
    sharing,
    randomBytes,
    key: () => lent(plan.key),
    openStorage: (reference) => fileStorage(planned(plan.storages, reference)),
    openImage: (reference) => reopenImage(planned(plan.images, reference), formats),
  });
  if (plan.snapshot !== undefined) return image.openSnapshot(plan.snapshot);
  return sharing === undefined ? image : new SharedImage(image, sharing);
}

/** The main thread wipes it. */
function lent(key: SharedArrayBuffer | undefined): ImageKey | undefined {
  return key && { bytes: new Uint8Array(key), release: () => {} };
}

/** Only what is written needs guarding. */
export function guarded(storage: Storage, guessedRaw: boolean, formats: readonly Format[]): Storage {
  return guessedRaw && storage.writable ? new GuessedRaw(storage, formats) : storage;
}

/** What a plan calls a reference. */
export function keyOf(reference: Reference): string {
  return `${reference.role}:${reference.name}`;
}

/** The part of a file that other threads may know. */
export function shared({ fd, name, size, writable, direct = false, unsafe = false }: HostFile): OpenFile {
  return { fd, name, size, writable, direct, unsafe };
}
