/** Where the files of a container lie, as storages: in the container itself, or in files that it names. */
import type { GzipIndex } from '../codec/gzip/gunzip.js';
import { ImgfsError } from '../lib/errors.js';
import { fileStorage } from '../storage/direct.js';
import type { OpenFile } from '../storage/file.js';
import { GunzippedStorage } from '../storage/gunzipped.js';
import { JoinedStorage, type Piece } from '../storage/joined.js';
import type { Storage } from '../storage/storage.js';
import { combinedName } from './combined-name.js';
import type { ContainedFile, Part } from './container.js';
import type { HostFile, HostFiles } from './files.js';
import { type GatePolicy, openReference } from './gate.js';

/** How another thread opens it: structured-clone data. */
export interface MemberPlan {
  readonly name: string;
  readonly parts: readonly { readonly file: OpenFile; readonly at: number; readonly length: number }[];
  /** Of one that is packed by gzip. */
  readonly unpacking?: GzipIndex | undefined;
}

/** A file of a container, open. */
export interface PlacedMember {
  readonly storage: Storage;
  readonly plan: MemberPlan;
  /** The files it lies in, each once. */
  readonly files: readonly HostFile[];
}

/** Opens a file of `container`; what it names goes through the gate. Throws what that throws. */
export function placeMember(
  { name, parts, packed }: ContainedFile,
  container: HostFile,
  files: HostFiles,
  policy: GatePolicy,
): PlacedMember {
  const opened = new Map<string, { readonly file: HostFile; readonly storage: Storage }>();
  const place = (part: Part): { readonly file: HostFile; readonly piece: Piece } => {
    const file =
      part.reference === undefined ? files.again(container) : memberFile(part.reference.name, container, files, policy);
    const known = opened.get(file.identity);
    const storage = known?.storage ?? files.storage(file);
    // The storage that is there already has a use of its own.
    if (known !== undefined) files.storage(file).close();
    opened.set(file.identity, { file, storage });
    const range = part.reference === undefined ? part : { at: 0, length: file.size };
    return { file, piece: { storage, at: range.at, length: range.length } };
  };
  const called = `${container.name}:${name}`;
  try {
    const placed = parts.map(place);
    const pieces = placed.map(({ piece }) => piece);
    const joined = new JoinedStorage(pieces, called);
    const unpacked = packed === 'gzip' ? new GunzippedStorage(joined) : undefined;
    return {
      storage: unpacked ?? joined,
      plan: {
        name: called,
        unpacking: unpacked?.index,
        parts: placed.map(({ file, piece }) => ({ file: planOf(file), at: piece.at, length: piece.length })),
      },
      files: Array.from(opened.values(), ({ file }) => file),
    };
  } catch (error) {
    for (const { storage } of opened.values()) storage.close();
    throw error;
  }
}

/** A file beside the container. */
export function memberFile(name: string, container: HostFile, files: HostFiles, policy: GatePolicy): HostFile {
  const file = files.openedByGate(
    openReference({ role: 'member', name }, container, policy),
    combinedName(container.name, name),
  );
  if (file.identity !== container.identity) return file;
  files.storage(file).close();
  throw new ImgfsError('refused', `${container.name} is named as a part of itself`);
}

/** Opens it again elsewhere, from descriptors alone. */
export function reopenMember({ name, parts, unpacking }: MemberPlan): Storage {
  const storages = new Map<number, Storage>();
  const joined = new JoinedStorage(
    parts.map(({ file, at, length }) => {
      const storage = storages.get(file.fd) ?? fileStorage(file);
      storages.set(file.fd, storage);
      return { storage, at, length };
    }),
    name,
  );
  return unpacking === undefined ? joined : new GunzippedStorage(joined, unpacking);
}

function planOf({ fd, name, size, writable }: HostFile): OpenFile {
  return { fd, name, size, writable };
}
