/** An image with a great many extents in a small file. */
import fs from 'node:fs';
import { qemuImg, qemuIo } from '../support/qemu.js';

const CLUSTER = 2 * 1024 * 1024;
const ENTRIES = CLUSTER / 8;

/** Extents of the image `alternating` makes. */
export const EXTENTS = 2 * ENTRIES;

/** 1 TiB in clusters of 2 MiB, every second one zeros, the others not there: two L2 tables, written by hand. */
export function alternating(path: string): void {
  qemuImg('create', '-q', '-f', 'qcow2', '-o', `cluster_size=${CLUSTER}`, path, '1T');
  qemuIo(path, ['write -z 0 2M', 'write -z 512G 2M']);
  const fd = fs.openSync(path, 'r+');
  try {
    const header = Buffer.alloc(64);
    fs.readSync(fd, header, 0, header.length, 0);
    const l1 = Buffer.alloc(16);
    fs.readSync(fd, l1, 0, l1.length, Number(header.readBigUInt64BE(40)));
    const table = Buffer.alloc(CLUSTER);
    // Bit 0 of an entry: reads as zeros.
    for (let index = 0; index < ENTRIES; index += 2) table.writeBigUInt64BE(1n, index * 8);
    for (const at of [0, 8])
      fs.writeSync(fd, table, 0, CLUSTER, Number(l1.readBigUInt64BE(at) & 0x00ff_ffff_ffff_fe00n));
  } finally {
    fs.closeSync(fd);
  }
}
