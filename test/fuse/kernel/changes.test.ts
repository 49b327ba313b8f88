/** The requests that change something, as bytes: decoded, passed on to the servers, and answered. */
import { expect } from 'chai';
import type { Attributes, DataServer, NameServer } from '../../../src/fuse/adapter.js';
import { Complaints } from '../../../src/fuse/complaints.js';
import { fallocateOf, PAYLOAD_AT, renameOf, setAttributesOf } from '../../../src/fuse/kernel/change-layout.js';
import { changes } from '../../../src/fuse/kernel/changes.js';
import { DataDesk } from '../../../src/fuse/kernel/data.js';
import { bodyFits, dropNotice, errnoOfReply } from '../../../src/fuse/kernel/layout.js';
import { negotiate } from '../../../src/fuse/kernel/negotiate.js';
import { OPCODE } from '../../../src/fuse/kernel/opcodes.js';
import { readOnlyData } from '../../../src/fuse/read-only.js';
import { ImgfsError } from '../../../src/lib/errors.js';
import { Random } from '../../support/seed.js';

const [EPERM, EINVAL, ENOSPC, EROFS, EOPNOTSUPP] = [1, 22, 28, 30, 95];
const HEADER = 40;

/** A request for inode 7 with this body. */
function request(opcode: number, ...body: readonly Buffer[]): Buffer {
  const bytes = Buffer.concat([Buffer.alloc(HEADER), ...body]);
  bytes.writeUInt32LE(bytes.length, 0);
  bytes.writeUInt32LE(opcode, 4);
  bytes.writeBigUInt64LE(5n, 8);
  bytes.writeBigUInt64LE(7n, 16);
  return bytes;
}

function fields(length: number, ...values: readonly (readonly [at: number, value: number | bigint])[]): Buffer {
  const bytes = Buffer.alloc(length);
  for (const [at, value] of values) {
    if (typeof value === 'bigint') bytes.writeBigUInt64LE(value, at);
    else bytes.writeUInt32LE(value, at);
  }
  return bytes;
}

const write = (at: bigint, size: number, data: Buffer): Buffer =>
  request(OPCODE.WRITE, fields(40, [8, at], [16, size]), data);
const fallocate = (mode: number, at: bigint, length: bigint): Buffer =>
  request(OPCODE.FALLOCATE, fields(32, [8, at], [16, length], [24, mode]));

describe('kernel wire: changes', () => {
  const said: string[] = [];
  let size = 1000;
  const server: DataServer = {
    ...readOnlyData,
    serves: () => true,
    read: () => 0,
    seek: () => undefined,
    write(ino, from, at) {
      said.push(`write ${ino} ${at} ${Buffer.from(from).toString()}`);
      return Math.min(from.length, size - at);
    },
    zero(ino, at, length, { unmap }) {
      said.push(`zero ${ino} ${at} ${length} ${unmap}`);
      return Math.min(length, size - at);
    },
    flush: (ino) => void said.push(`flush ${ino}`),
    verify: (ino) => void said.push(`verify ${ino}`),
  };
  const desk = new DataDesk(server, new Complaints(() => {}));

  beforeEach(() => {
    said.length = 0;
    size = 1000;
  });

  /** The errno of the answer, or the bytes that a WRITE took. */
  function answer(bytes: Buffer): number {
    const length = desk.answer(bytes);
    const errno = Math.abs(errnoOfReply(desk.reply));
    return errno === 0 && length > 16 ? desk.reply.readUInt32LE(16) : errno;
  }

  it('hands the payload over where it lies, and says how much was taken', () => {
    expect(answer(write(5n, 5, Buffer.from('hello')))).to.equal(5);
    expect(answer(write(998n, 5, Buffer.from('hello')))).to.equal(2);
    expect(said).to.deep.equal(['write 7 5 hello', 'write 7 998 hello']);
    const bytes = write(0n, 5, Buffer.from('hello'));
    let memory: ArrayBufferLike | undefined;
    const spy: DataServer = {
      ...server,
      write(_ino, from) {
        memory = from.buffer;
        expect(from.byteOffset - bytes.byteOffset).to.equal(PAYLOAD_AT);
        return from.length;
      },
    };
    new DataDesk(spy, new Complaints(() => {})).answer(bytes);
    expect(memory).to.equal(bytes.buffer);
  });

  it('refuses a write that claims more than it brings, or a place beyond all files', () => {
    expect(answer(write(0n, 6, Buffer.from('hello')))).to.equal(EINVAL);
    expect(answer(write(2n ** 60n, 5, Buffer.from('hello')))).to.equal(ENOSPC);
    expect(said).to.deep.equal([]);
  });

  it('knows punching and zeroing, with and without keeping the size, and nothing else', () => {
    expect(fallocateOf(fallocate(3, 1n, 2n))).to.deep.equal({ at: 1, length: 2, what: 'punch', keepSize: true });
    expect(fallocateOf(fallocate(17, 1n, 2n)).what).to.equal('zero');
    expect([0, 1, 8, 9, 33, 19].map((mode) => fallocateOf(fallocate(mode, 0n, 1n)).what)).to.deep.equal(
      Array(6).fill(undefined),
    );
    expect(answer(fallocate(3, 900n, 2n ** 62n))).to.equal(0);
    expect(answer(fallocate(16, 900n, 100n))).to.equal(0);
    expect(answer(fallocate(16, 900n, 101n))).to.equal(ENOSPC);
    expect(answer(fallocate(0, 0n, 100n))).to.equal(EOPNOTSUPP);
    expect(said.slice(1)).to.deep.equal(['zero 7 900 100 false', 'zero 7 900 101 false']);
  });

  it('makes FSYNC durable, and FLUSH tell of losses', () => {
    expect([
      answer(request(OPCODE.FSYNC, Buffer.alloc(16))),
      answer(request(OPCODE.FLUSH, Buffer.alloc(24))),
    ]).to.deep.equal([0, 0]);
    expect(said).to.deep.equal(['flush 7', 'verify 7']);
  });

  it('throws at no bytes whatever', () => {
    const random = new Random();
    const opcodes = [OPCODE.WRITE, OPCODE.FALLOCATE, OPCODE.FSYNC, OPCODE.FLUSH];
    for (let n = 0; n < 5000; n++) {
      const bytes = request(random.pick(opcodes), random.bytes(random.below(120)));
      if (bodyFits(bytes.readUInt32LE(4), bytes.length)) desk.answer(bytes);
    }
  });
});

describe('kernel wire: changes of names', () => {
  const said: string[] = [];
  const attributes: Attributes = {
    ...{ ino: 7, kind: 'file', mode: 0o644, uid: 1, gid: 2, links: 1, size: 10, allocated: 0, blockSize: 4096 },
    ...{ mtimeSeconds: 0, mtimeNanoseconds: 0, validMs: 0 },
  };
  const names = {
    attributes: () => attributes,
    resize: (ino: number, size: number) => void said.push(`resize ${ino} ${size}`),
    create(parent: number, name: string) {
      said.push(`create ${parent} ${name}`);
      return 9;
    },
    remove: (parent: number, name: string) => void said.push(`remove ${parent} ${name}`),
    rename: (...args: readonly (number | string)[]) => void said.push(`rename ${args.join(' ')}`),
    setExtended(ino: number, name: string, value: Uint8Array) {
      said.push(`set ${ino} ${name} ${Buffer.from(value).toString()}`);
      return [ino, 12];
    },
  } as unknown as NameServer;

  function handle(bytes: Buffer, readOnly = false): number {
    const reply = Buffer.alloc(4096);
    const handler = new Map(changes(names, readOnly, (ino) => void said.push(`drop ${ino}`))).get(
      bytes.readUInt32LE(4),
    );
    try {
      return handler?.(bytes, reply) ?? 0;
    } catch (error) {
      if (error instanceof ImgfsError) return -1000;
      throw error;
    }
  }

  beforeEach(() => {
    said.length = 0;
  });

  const setattr = (...values: readonly (readonly [number, number | bigint])[]): Buffer =>
    request(OPCODE.SETATTR, fields(88, ...values));

  it('decodes what SETATTR sets, and lets owner and mode only stay', () => {
    expect(setAttributesOf(setattr([0, 8], [16, 2n ** 40n]))).to.deep.equal({ size: 2 ** 40 });
    expect(setAttributesOf(setattr([0, 1 + 2 + 4], [68, 0o100600], [76, 3], [80, 4]))).to.deep.equal({
      ...{ mode: 0o600, uid: 3, gid: 4 },
    });
    expect(handle(setattr([0, 8], [16, 20n]))).to.equal(104);
    expect(handle(setattr([0, 16 + 32 + 128], [16, 99n]))).to.equal(104);
    expect(handle(setattr([0, 1 + 2], [68, 0o100644], [76, 1]))).to.equal(104);
    expect(handle(setattr([0, 1 + 8], [16, 30n], [68, 0o100600]))).to.equal(-EPERM);
    expect(said).to.deep.equal(['resize 7 20']);
  });

  it('creates, removes and renames by name', () => {
    const text = (...parts: readonly string[]): Buffer => Buffer.from(parts.map((part) => `${part}\0`).join(''));
    expect(handle(request(OPCODE.CREATE, Buffer.alloc(16), text('a.raw')))).to.equal(128 + 16);
    expect(handle(request(OPCODE.CREATE, Buffer.alloc(16), Buffer.from([255, 0])))).to.equal(-EINVAL);
    expect(handle(request(OPCODE.UNLINK, text('a.raw')))).to.equal(0);
    expect(handle(request(OPCODE.RENAME, fields(8, [0, 8n]), text('a', 'b')))).to.equal(0);
    expect(handle(request(OPCODE.RENAME2, fields(16, [0, 8n], [8, 1]), text('a', 'b')))).to.equal(0);
    expect(handle(request(OPCODE.RENAME2, fields(16, [0, 8n], [8, 2]), text('a', 'b')))).to.equal(-EINVAL);
    expect(handle(request(OPCODE.RENAME, fields(8, [0, 8n]), Buffer.from('a')))).to.equal(-EINVAL);
    expect(said).to.deep.equal(['create 7 a.raw', 'remove 7 a.raw', 'rename 7 a 8 b', 'rename 7 a 8 b']);
    expect(renameOf(request(OPCODE.RENAME, fields(8, [0, 8n]), text('a', '')), false).to).to.equal(undefined);
  });

  it('sets an extended attribute, and has the kernel forget before it answers', () => {
    const named = (size: number, ...bytes: readonly string[]): Buffer =>
      request(OPCODE.SETXATTR, fields(8, [0, size]), ...bytes.map((part) => Buffer.from(part)));
    expect(handle(named(3, 'user.x\0', 'a\0b'))).to.equal(0);
    expect(handle(named(0, 'user.x\0'))).to.equal(0);
    for (const wrong of [named(4, 'user.x\0', 'abc'), named(3, 'user.x'), named(0, '\0'), named(2 ** 32 - 1)]) {
      expect(handle(wrong)).to.equal(-EINVAL);
    }
    expect(said).to.deep.equal(['set 7 user.x a\0b', 'drop 7', 'drop 12', 'set 7 user.x ', 'drop 7', 'drop 12']);
    const notice = dropNotice(7);
    expect([notice.length, notice.readUInt32LE(0), notice.readInt32LE(4)]).to.deep.equal([40, 40, 2]);
    expect([8, 16, 24, 32].map((at) => notice.readBigUInt64LE(at))).to.deep.equal([0n, 7n, 0n, 0n]);
  });

  it('is read-only as a whole where the mount is', () => {
    for (const opcode of [OPCODE.SETATTR, OPCODE.CREATE, OPCODE.UNLINK, OPCODE.RENAME, OPCODE.SETXATTR, OPCODE.MKDIR]) {
      expect(handle(request(opcode, Buffer.alloc(120)), true)).to.equal(-EROFS);
    }
    expect(handle(request(OPCODE.MKDIR, Buffer.alloc(20)))).to.equal(-EPERM);
    expect(said).to.deep.equal([]);
  });

  it('asks for the writeback cache only when told to', () => {
    const offer = { major: 7, minor: 45, maxReadahead: 131072, flags: 0x73fffffb, flags2: 0x5fd };
    const cache = 1 << 16;
    expect([negotiate(offer).flags & cache, negotiate(offer, { writebackCache: true }).flags & cache]).to.deep.equal([
      0,
      cache,
    ]);
  });
});
