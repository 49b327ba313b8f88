/** Damage to the tables of a qcow2 image, as random as its seed. */
import fs from 'node:fs';
import { qemuImg, qemuIo } from './qemu.js';
import type { Random } from './seed.js';

/** An image file whose tables can be damaged at known places. */
export interface Damageable {
  readonly bytes: Buffer;
  /** Host ranges that hold tables of 8-byte entries. */
  readonly tables: readonly (readonly [number, number])[];
  readonly refcounts: readonly [number, number];
}

/** Makes an image with data, zeros, compressed clusters and a snapshot, and where its tables lie. */
export function damageable(file: string): Damageable {
  fs.rmSync(file, { force: true });
  qemuImg('create', '-q', '-f', 'qcow2', '-o', 'cluster_size=4k', file, '4M');
  qemuIo(file, ['write -P 1 0 256k', 'write -z 300k 64k', 'write -c -P 2 400k 4k', 'write -c -P 3 404k 4k']);
  qemuImg('snapshot', '-c', 'one', file);
  qemuIo(file, ['write -P 4 64k 64k', 'write -P 5 3M 128k', 'discard 128k 8k']);
  const bytes = fs.readFileSync(file);
  const l1 = Number(bytes.readBigUInt64BE(40));
  const l2 = Number(bytes.readBigUInt64BE(l1) & 0xfffffffffffe00n);
  const refcountTable = Number(bytes.readBigUInt64BE(48));
  const block = Number(bytes.readBigUInt64BE(refcountTable));
  return {
    bytes,
    tables: [
      [l1, 8],
      [l2, 1024],
      [refcountTable, 16],
      [block, 512],
    ],
    refcounts: [block, 400],
  };
}

/** Overwrites one entry of a table. Returns what it did. */
export function damage(bytes: Buffer, tables: Damageable['tables'], random: Random): string {
  const [at, length] = tables[random.below(tables.length)] as readonly [number, number];
  const entry = at + 8 * random.below(length / 8);
  const clusters = bytes.length / 4096;
  const values = [
    0n,
    BigInt(4096 * random.below(clusters)),
    1n << 63n,
    0x200n,
    BigInt(4096 * (clusters + 50)),
    0xffffn,
    // Beyond 2^53, aligned and not.
    0x00f0_0000_0004_5000n,
    0x00f0_0000_0004_5200n,
  ];
  const value = values[random.below(values.length)] ?? 0n;
  bytes.writeBigUInt64BE(value, entry);
  return `${value.toString(16)} at ${entry}`;
}

/** Makes some refcounts wrong, and now and then the refcount table. Returns where. */
export function damageRefcounts(bytes: Buffer, image: Damageable, random: Random): string {
  const [at, length] = image.refcounts;
  const where: string[] = [];
  for (let n = 0; n <= random.below(4); n++) {
    const entry = at + 2 * random.below(length / 2);
    bytes.writeUInt16BE(random.below(4), entry);
    where.push(String(entry));
  }
  if (random.below(4) === 0) {
    bytes.writeBigUInt64BE(BigInt(random.below(2) === 0 ? 512 : 1 << 30), image.tables[2]?.[0] ?? 0);
    where.push('refcount table');
  }
  return where.join(', ');
}
