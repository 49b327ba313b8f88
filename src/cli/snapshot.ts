import { type Command, Option } from 'commander';
import { describeSnapshot, type SnapshotDocument } from '../image/describe.js';
import { snapshotLines } from '../image/info-text.js';
import { snapshotNamed } from '../image/named-snapshot.js';
import { type OpenedImage, openImage } from '../image/open.js';
import { ImgfsError, printable } from '../lib/errors.js';
import { jsonText } from '../lib/json-text.js';
import { LiveSnapshots } from '../mount/live-snapshots.js';
import { type ServedImage, servedImage } from '../mount/served.js';
import { declareJsonOptions, type JsonFlags, wantsJson } from './json-option.js';
import { hintWhereMounted } from './mounted-hint.js';
import { openOptions, openToLook, writeOptions } from './open-options.js';
import { print } from './output.js';
import { QEMU_IMG_CODES, type Verb } from './verb.js';

interface SnapshotFlags extends JsonFlags {
  readonly list?: true;
  readonly create?: string;
  readonly apply?: string;
  readonly delete?: string;
  readonly rename?: string;
  /** The new name of `rename`. */
  readonly to?: string;
  readonly format?: string;
  readonly forceShare?: true;
}

type Action =
  | { readonly kind: 'list' }
  | { readonly kind: 'create' | 'apply' | 'delete'; readonly name: string }
  | { readonly kind: 'rename'; readonly name: string; readonly to: string };

/**
 * `imgfs snapshot`: the snapshots in an image, at rest or in a live mount. Opens that one file only. As qemu-img has
 * it, a snapshot is applied by id or else name, and deleted by name; here by name or else id.
 */
export const verb: Verb = {
  exitCodes: QEMU_IMG_CODES,
  /** An option of two values. */
  arrange(args) {
    const at = args.findIndex((arg) => arg === '--rename' || arg.startsWith('--rename='));
    const options = args.indexOf('--');
    const to = args[at] === '--rename' ? at + 2 : at + 1;
    if (at < 0 || (options >= 0 && options < at) || to >= args.length) return args;
    return [...args.slice(0, to), `--to=${args[to]}`, ...args.slice(to + 1)];
  },
  declare(command) {
    command
      .argument('<image>', 'the image, or where it is mounted')
      .option('-l, --list', 'list the snapshots, which is what is done without a letter')
      .option('-c, --create <name>', 'take one')
      .option('-a, --apply <snapshot>', 'make the disk what it was then; in a mount, while nobody has it open')
      .option('-d, --delete <snapshot>', 'delete one')
      .option('--rename <old> <new>', 'rename one')
      .addOption(new Option('--to <new>').hideHelp())
      .option('-f, --format <fmt>', 'the format of the image, instead of looking');
    declareJsonOptions(command);
    command
      .option('-q, --quiet', 'print nothing but a list')
      .option('-U, --force-share', 'list although another process writes');
  },
  run(command: Command) {
    const flags = command.opts<SnapshotFlags>();
    const [path = ''] = command.args;
    const json = wantsJson(flags);
    const action = actionOf(flags);
    if (action.kind === 'list') print(listText(path, listed(path, flags), json));
    else change(path, action, flags);
    return 0;
  },
};

function actionOf(flags: SnapshotFlags): Action {
  const { list, create, apply, rename, to } = flags;
  const asked: Action[] = [
    ...(list === true ? [{ kind: 'list' } as const] : []),
    ...(create === undefined ? [] : [{ kind: 'create', name: create } as const]),
    ...(apply === undefined ? [] : [{ kind: 'apply', name: apply } as const]),
    ...(flags.delete === undefined ? [] : [{ kind: 'delete', name: flags.delete } as const]),
    ...(rename === undefined ? [] : [{ kind: 'rename', name: rename, to: to ?? '' } as const]),
  ];
  const [action = { kind: 'list' }] = asked;
  if (asked.length > 1 || (rename === undefined) !== (to === undefined)) {
    throw new ImgfsError('usage', '-l, -c NAME, -a SNAPSHOT, -d SNAPSHOT or --rename OLD NEW: one of them', {
      hint: 'see imgfs help snapshot',
    });
  }
  if (action.kind !== 'list' && flags.forceShare === true) {
    throw new ImgfsError('usage', 'an image that others use cannot be changed', { hint: 'leave out --force-share' });
  }
  return action;
}

/** From the mount where the image is written there, and from its file otherwise. */
function listed(path: string, flags: SnapshotFlags): readonly SnapshotDocument[] {
  const served = servedImage(path);
  if (served?.home !== undefined) return new LiveSnapshots(served.home).list();
  const opened = openToLook(served?.image ?? path, {
    ...openOptions({ ...flags, refs: false }),
    references: 'unopened',
  });
  try {
    return opened.image.snapshots().map(describeSnapshot);
  } finally {
    opened.image.close();
  }
}

function listText(path: string, snapshots: readonly SnapshotDocument[], json: boolean): string {
  if (json) return jsonText({ schema: 'imgfs.snapshots/1', filename: path, snapshots });
  return snapshotLines(snapshots)
    .map((line) => `${printable(line)}\n`)
    .join('');
}

function change(path: string, action: Exclude<Action, { kind: 'list' }>, flags: SnapshotFlags): void {
  const served = servedImage(path);
  if (served !== undefined) {
    changeLive(path, action, served);
    return;
  }
  const options = { ...writeOptions(path, { ...flags, refs: false }), references: 'unopened' } as const;
  const opened = hintWhereMounted(path, () => openImage(path, options));
  try {
    changeAtRest(opened, action);
  } finally {
    opened.image.close();
  }
}

function changeAtRest(opened: OpenedImage, action: Exclude<Action, { kind: 'list' }>): void {
  const { image } = opened;
  if (action.kind === 'create') image.createSnapshot(Buffer.from(action.name));
  if (action.kind === 'apply') image.applySnapshot(snapshotNamed(opened, action.name).id);
  if (action.kind === 'delete') image.deleteSnapshot(snapshotNamed(opened, action.name, 'name').id);
  if (action.kind === 'rename') {
    image.renameSnapshot(snapshotNamed(opened, action.name).id, Buffer.from(action.to));
  }
}

/** The process that serves the mount makes the change; the disk must not be open there if it is to be another. */
function changeLive(path: string, action: Exclude<Action, { kind: 'list' }>, served: ServedImage): void {
  const { home, mountpoint } = served;
  if (home === undefined) {
    throw new ImgfsError('busy', `${path} is mounted on ${mountpoint}`, {
      hint: `end it with imgfs umount ${mountpoint}`,
    });
  }
  const snapshots = new LiveSnapshots(home);
  if (action.kind === 'create') snapshots.create(action.name);
  if (action.kind === 'apply') snapshots.apply(action.name);
  if (action.kind === 'delete') snapshots.delete(action.name);
  if (action.kind === 'rename') snapshots.rename(action.name, action.to);
}
