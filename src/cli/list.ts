import type { Command } from 'commander';
import { isDeadMount } from '../mount/mountpoint.js';
import { ourMounts } from '../mount/mounts.js';
import { liveRecords, type MountRecord } from '../mount/records.js';
import { print } from './output.js';
import { table } from './support-table.js';
import { OWN_CODES, type Verb } from './verb.js';

interface Listed {
  readonly mountpoint: string;
  readonly images: readonly string[];
  /** Unknown for another user's mount. */
  readonly pid?: number;
  readonly adapter?: string;
  readonly since?: string;
  readonly log?: string;
  readonly state: 'live' | 'dead';
}

/** `imgfs list`: the imgfs mounts this process can see, dead ones too. */
export const verb: Verb = {
  exitCodes: OWN_CODES,
  declare(command) {
    command.option('--json', 'print JSON');
  },
  run(command: Command) {
    const mounts = listMounts();
    const { json } = command.opts<{ json?: true }>();
    if (json === true) print(`${JSON.stringify({ schema: 'imgfs.list/1', mounts }, undefined, 4)}\n`);
    else if (mounts.length > 0) print(asText(mounts));
    return 0;
  },
};

function listMounts(): readonly Listed[] {
  const records = new Map<string, MountRecord>(liveRecords().map((record) => [record.device, record]));
  return ourMounts().map((entry) => {
    const record = records.get(entry.device);
    if (record === undefined) {
      const state = isDeadMount(entry.mountpoint) ? 'dead' : 'live';
      return { mountpoint: entry.mountpoint, images: [entry.source], state };
    }
    const { images, pid, adapter, since, log } = record;
    return {
      mountpoint: entry.mountpoint,
      images,
      pid,
      adapter,
      since,
      ...(log === undefined ? {} : { log }),
      state: 'live',
    };
  });
}

function asText(mounts: readonly Listed[]): string {
  const rows = mounts.map((one) => [
    one.mountpoint,
    one.state === 'dead' ? 'dead' : String(one.pid ?? '?'),
    one.adapter ?? '?',
    one.images.join(' '),
  ]);
  return table([['MOUNTPOINT', 'PID', 'ADAPTER', 'IMAGES'], ...rows]);
}
