/**
 * What each live mount notes about itself, so that `list` and `umount` know its process: one small file per mount in
 * a directory only the user can write. A record counts only while that very process lives.
 */
import fs from 'node:fs';
import { basename, join } from 'node:path';
import { type ErrorRecord, hostError, ImgfsError } from '../lib/errors.js';

/** A process, told from any other that has its number later. */
export interface Process {
  readonly pid: number;
  /** Start time in clock ticks since boot: with the pid, unique until the next boot. */
  readonly started: string;
}

export interface MountRecord extends Process {
  readonly mountpoint: string;
  /** `major:minor` of the mount: unlike the mountpoint, unique while the process lives. */
  readonly device: string;
  readonly images: readonly string[];
  readonly adapter: string;
  readonly readOnly: boolean;
  /** Writes go somewhere else than to the images. */
  readonly overlay: boolean;
  /** Where the background process writes what it has to say; undefined in the foreground. */
  readonly log?: string;
  /** ISO 8601. */
  readonly since: string;
}

/** Logs of mounts that are gone are kept this long, for whoever asks what happened. */
const LOG_DAYS = 7;

/** The directory, made at need: private to the user, and refused when somebody else prepared it. */
function recordDirectory(): string {
  const path = recordPath();
  try {
    fs.mkdirSync(path, { recursive: true, mode: 0o700 });
    const status = fs.lstatSync(path);
    if (status.isDirectory() && status.uid === process.getuid?.() && status.mode % 0o100 === 0) return path;
  } catch (error) {
    throw hostError(`cannot make ${path}`, error);
  }
  throw new ImgfsError('refused', `${path} is not a private directory of yours`, { hint: 'remove it' });
}

function recordPath(): string {
  const uid = process.getuid?.() ?? 0;
  const runtime = process.env.XDG_RUNTIME_DIR;
  if (uid === 0) return '/run/imgfs';
  return runtime === undefined || runtime === '' ? `/tmp/imgfs-${uid}` : join(runtime, 'imgfs');
}

/** A path for the log of a mount that this process starts. Forgets logs nobody has asked for in a week. */
export function newLogFile(): string {
  const directory = recordDirectory();
  const oldest = Date.now() - LOG_DAYS * 24 * 3600 * 1000;
  const current = new Set(liveRecords().map((record) => record.log));
  for (const name of fs.readdirSync(directory).filter((entry) => entry.endsWith('.log'))) {
    const log = join(directory, name);
    const status = fs.statSync(log, { throwIfNoEntry: false });
    if (status !== undefined && status.mtimeMs < oldest && !current.has(log)) fs.rmSync(log, { force: true });
  }
  return join(directory, `mount-${process.pid}-${Date.now()}.log`);
}

/** Notes this process as the server of a mount. Returns the function that removes the note again. */
export function writeRecord(record: Omit<MountRecord, 'pid' | 'started' | 'since'>): () => void {
  const file = join(recordDirectory(), `${process.pid}.json`);
  // Another process of this number may have left one.
  fs.rmSync(failurePath(process.pid), { force: true });
  const full: MountRecord = {
    ...record,
    pid: process.pid,
    started: startTime(process.pid) ?? '',
    since: new Date().toISOString(),
  };
  fs.writeFileSync(file, `${JSON.stringify(full)}\n`, { mode: 0o600 });
  return () => fs.rmSync(file, { force: true });
}

/** Notes that the end of this process's mount lost something: for `takeFailure`, once this process is gone. */
export function noteFailure(error: ErrorRecord): void {
  fs.writeFileSync(failurePath(process.pid), JSON.stringify(error), { mode: 0o600 });
}

/** Why the end of the mount of a process that is gone was no good one, if it was not; told once. */
export function takeFailure({ pid }: Process): ErrorRecord | undefined {
  try {
    const text = fs.readFileSync(failurePath(pid), 'utf8');
    fs.rmSync(failurePath(pid), { force: true });
    return JSON.parse(text) as ErrorRecord;
  } catch {
    return undefined;
  }
}

/** Named as a log: what nobody asks for is forgotten with the old ones. */
function failurePath(pid: number): string {
  return join(recordDirectory(), `${pid}.failed.log`);
}

/** The records of processes that live; those of dead ones are removed, and their logs with them. */
export function liveRecords(): readonly MountRecord[] {
  if (fs.lstatSync(recordPath(), { throwIfNoEntry: false }) === undefined) return [];
  const directory = recordDirectory();
  const live: MountRecord[] = [];
  for (const name of fs.readdirSync(directory).filter((entry) => entry.endsWith('.json'))) {
    const record = readRecord(join(directory, name));
    if (record !== undefined && isAlive(record)) live.push(record);
    // Its file is named after its process: one that is being written belongs to a process that lives.
    else if (record !== undefined || startTime(Number(basename(name, '.json'))) === undefined) {
      fs.rmSync(join(directory, name), { force: true });
      if (record?.log !== undefined) fs.rmSync(record.log, { force: true });
    }
  }
  return live;
}

/** Whether it still runs. */
export function isAlive({ pid, started }: Process): boolean {
  return startTime(pid) === started;
}

/** The process that has this number now. */
export function processOf(pid: number): Process | undefined {
  const started = startTime(pid);
  return started === undefined ? undefined : { pid, started };
}

function readRecord(path: string): MountRecord | undefined {
  try {
    return JSON.parse(fs.readFileSync(path, 'utf8')) as MountRecord;
  } catch {
    return undefined;
  }
}

/**
 * Field 22 of /proc/PID/stat; the command name before it may hold spaces and parentheses. A zombie is not alive, once
 * its other threads are gone: until then they hold its files, and the locks on them.
 */
function startTime(pid: number): string | undefined {
  try {
    const stat = fs.readFileSync(`/proc/${pid}/stat`, 'latin1');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    const gone = fields[0] === 'Z' && fs.readdirSync(`/proc/${pid}/task`).length <= 1;
    return gone ? undefined : fields[19];
  } catch {
    return undefined;
  }
}
