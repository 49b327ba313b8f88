/** Requests as bytes, without a kernel: recorded from Linux 6.18 (FUSE 7.45), cut short everywhere, and random. */
import { closeSync, openSync, readFileSync } from 'node:fs';
import { expect } from 'chai';
import { type Attributes, ROOT } from '../../../src/fuse/adapter.js';
import { Complaints } from '../../../src/fuse/complaints.js';
import { DataDesk } from '../../../src/fuse/kernel/data.js';
import { FrontDesk } from '../../../src/fuse/kernel/frontdesk.js';
import * as layout from '../../../src/fuse/kernel/layout.js';
import { dispatch, FORWARDED } from '../../../src/fuse/kernel/loop.js';
import { negotiate } from '../../../src/fuse/kernel/negotiate.js';
import { OPCODE } from '../../../src/fuse/kernel/opcodes.js';
import { traceLine } from '../../../src/fuse/kernel/trace.js';
import { ImgfsError } from '../../../src/lib/errors.js';
import { scratch } from '../../support/scratch.js';
import { Random } from '../../support/seed.js';
import { BIG_SIZE, fakeServed, fillPattern, INODES } from '../../support/served.js';

const RECORDED = {
  init: `680000001a000000020000000000000000000000000000000000000000000000000000000000000007000000
    2d00000000000200fbffff73fd05000000000000000000000000000000000000000000000000000000000000000000000000
    00000000000000000000`,
  opendir: `300000001b000000060000000000000001000000000000000000000000000000255b0000000000000088010000000000`,
  readdir: `500000001c0000000800000000000000010000000000000000000000000000 00255b00000000000001000000000000
    0000000000000000000000010000000000000000000000000000880100 00000000`,
  open: `300000000e00000010000000000000000b000000000000000000000000000000265b00000000000000c0000000000000`,
  read: `500000000f00000014000000000000000b000000000000000000000000000000265b0000000000000000000000000000
    00000000010000000010000002000000000000000000000000c0000000000000`,
  lseek: `400000002e0000001a000000000000000b000000000000000000000000000000275b0000000000000000000000000000
    00200000000000000400000000000000`,
  statfs: `280000001100000020000000000000000100000000000000000000000000000 0515b000000000000`,
  lookup: `32000000010000000c000000000000000100000000000000000000000000000 0255b000000000000
    736d616c6c2e72617700`,
} as const;

/** The recorded bytes. Their own length field must agree: a slip in copying them here shows. */
function recorded(name: keyof typeof RECORDED): Buffer {
  const bytes = Buffer.from(RECORDED[name].replace(/\s/g, ''), 'hex');
  expect(layout.lengthOf(bytes), name).to.equal(bytes.length);
  return bytes;
}

const pattern = (at: number, length: number): Buffer => {
  const bytes = Buffer.alloc(length);
  fillPattern(bytes, at);
  return bytes;
};

describe('kernel wire: decoding', () => {
  it('reads the fields of recorded requests', () => {
    const read = recorded('read');
    expect(layout.opcodeOf(read)).to.equal(OPCODE.READ);
    expect(layout.inodeOf(read)).to.equal(INODES.big);
    expect([layout.offsetOf(read), layout.sizeOf(read)]).to.deep.equal([2 ** 32, 4096]);
    const lseek = recorded('lseek');
    expect([layout.offsetOf(lseek), layout.seekWant(lseek)]).to.deep.equal([8192, 'hole']);
    expect(layout.nameOf(recorded('lookup'))).to.equal('small.raw');
    expect(layout.opensForWriting(recorded('open'))).to.equal(false);
    expect(layout.initOffer(recorded('init'))).to.deep.equal({
      major: 7,
      minor: 45,
      maxReadahead: 131072,
      flags: 0x73fffffb,
      flags2: 0x5fd,
    });
  });

  it('takes an INIT without the second word of flags, as kernels before 5.17 send it', () => {
    const old = recorded('init').subarray(0, 56);
    expect(layout.bodyFits(OPCODE.INIT, old.length)).to.equal(true);
    expect(layout.initOffer(old).flags2).to.equal(0);
  });

  it('finds no name in bytes that end without NUL, are empty, or are not UTF-8', () => {
    const lookup = recorded('lookup');
    expect(layout.nameOf(lookup.subarray(0, lookup.length - 1))).to.equal(undefined);
    expect(layout.nameOf(Buffer.concat([lookup.subarray(0, 40), Buffer.from([0])]))).to.equal(undefined);
    expect(layout.nameOf(Buffer.concat([lookup.subarray(0, 40), Buffer.from([255, 0])]))).to.equal(undefined);
  });

  it('makes numbers past 2^53 infinite', () => {
    const read = recorded('read');
    read.writeBigUInt64LE(2n ** 53n - 1n, 48);
    expect(layout.offsetOf(read)).to.equal(Number.MAX_SAFE_INTEGER);
    for (const value of [2n ** 53n, 2n ** 63n, 2n ** 64n - 1n]) {
      read.writeBigUInt64LE(value, 48);
      expect(layout.offsetOf(read)).to.equal(Number.POSITIVE_INFINITY);
    }
  });
});

describe('kernel wire: encoding', () => {
  const node: Attributes = {
    ino: 2 ** 40 + 3,
    kind: 'file',
    mode: 0o640,
    uid: 1000,
    gid: 100,
    links: 1,
    size: 2 ** 45 + 1,
    allocated: 513,
    blockSize: 65536,
    mtimeSeconds: -2,
    mtimeNanoseconds: 5,
    validMs: 1500,
  };

  it('puts attributes where struct fuse_attr_out has them', () => {
    const reply = Buffer.alloc(256, 0xee);
    expect(layout.putAttributes(reply, node)).to.equal(104);
    const body = reply.subarray(16);
    expect(body.readBigUInt64LE(0)).to.equal(1n);
    expect(body.readUInt32LE(8)).to.equal(500_000_000);
    expect(body.readBigUInt64LE(16)).to.equal(2n ** 40n + 3n);
    expect(body.readBigUInt64LE(24)).to.equal(2n ** 45n + 1n);
    expect(body.readBigUInt64LE(32)).to.equal(2n);
    expect(body.readBigInt64LE(48)).to.equal(-2n);
    expect([body.readUInt32LE(64), body.readUInt32LE(76)]).to.deep.equal([5, 0o100640]);
    expect([body.readUInt32LE(84), body.readUInt32LE(88), body.readUInt32LE(96)]).to.deep.equal([1000, 100, 65536]);
    expect(body[104]).to.equal(0xee);
  });

  it('puts an entry where struct fuse_entry_out has it', () => {
    const reply = Buffer.alloc(256, 0xee);
    expect(layout.putEntry(reply, { ...node, kind: 'directory' })).to.equal(128);
    const body = reply.subarray(16);
    expect([body.readBigUInt64LE(0), body.readBigUInt64LE(8)]).to.deep.equal([2n ** 40n + 3n, 0n]);
    expect([body.readBigUInt64LE(16), body.readBigUInt64LE(24)]).to.deep.equal([1n, 1n]);
    expect([body.readUInt32LE(32), body.readUInt32LE(36)]).to.deep.equal([500_000_000, 500_000_000]);
    expect(body.readUInt32LE(40 + 60)).to.equal(0o040640);
    expect(body[128]).to.equal(0xee);
  });

  it('pads directory entries to eight bytes and never passes the size asked for', () => {
    const entry = { ino: 7, kind: 'file', name: 'abc' } as const;
    const reply = Buffer.alloc(256, 0xee);
    expect(layout.putDirent(reply, 0, 32, entry, 1)).to.equal(32);
    expect(layout.putDirent(reply, 32, 63, entry, 2)).to.equal(undefined);
    expect(reply.subarray(16, 48).toString('hex')).to.equal(
      `07000000000000000100000000000000${'0300000008000000'}${'6162630000000000'}`,
    );
    expect(reply[48]).to.equal(0xee);
    expect(layout.putDirent(reply, 232, 4096, entry, 9)).to.equal(undefined);
  });

  it('copies `unique` bit for bit', () => {
    const request = recorded('read');
    request.writeBigUInt64LE(0xfedcba9876543210n, 8);
    const reply = Buffer.alloc(16);
    layout.putHeader(reply, request, 16, 5);
    expect(reply.readBigUInt64LE(8)).to.equal(0xfedcba9876543210n);
    expect(reply.readInt32LE(4)).to.equal(-5);
    expect(layout.errorReply(layout.uniqueLow(request), layout.uniqueHigh(request), 5).equals(reply)).to.equal(true);
  });
});

describe('kernel negotiation', () => {
  const offer = layout.initOffer(recorded('init'));

  it('asks this kernel for large and asynchronous requests, and for no locks or writeback cache', () => {
    const answer = negotiate(offer);
    expect(answer).to.include({ major: 7, minor: 40, maxWrite: 2 ** 20, maxPages: 256, maxBackground: 64 });
    expect(answer.flags).to.equal((1 << 0) | (1 << 5) | (1 << 15) | (1 << 18) | (1 << 22) | (1 << 30));
    expect(answer.flags2).to.equal(1 << 4);
  });

  it('takes less from an older kernel', () => {
    const answer = negotiate({ ...offer, minor: 27, flags: 0x3fffb, flags2: 0, maxReadahead: 4096 });
    expect(answer).to.include({ minor: 27, flags: (1 << 0) | (1 << 5) | (1 << 15), flags2: 0, maxReadahead: 4096 });
  });

  it('tells a newer protocol its own version, and refuses one too old', () => {
    expect(negotiate({ ...offer, major: 8, minor: 1 })).to.include({ major: 7, minor: 40 });
    expect(() => negotiate({ ...offer, minor: 22 })).to.throw(ImgfsError, 'FUSE 7.22');
    expect(() => negotiate({ ...offer, major: 6 })).to.throw(ImgfsError);
  });
});

describe('kernel requests without a kernel', () => {
  const files = scratch();
  let fd = -1;
  let taken = 0;
  const logs: string[] = [];
  let desk: FrontDesk;

  before(() => {
    fd = openSync(files.path('device'), 'w+');
    desk = new FrontDesk(fakeServed('directory'), { fd, readOnly: true, log: (m) => logs.push(m), trace: false });
  });
  after(() => closeSync(fd));

  /** What the front desk writes to a request, checked to be nothing or one whole reply to that very request. */
  function reply(request: Buffer): Buffer | undefined {
    desk.take(request);
    const written = readFileSync(files.path('device')).subarray(taken);
    taken += written.length;
    if (written.length === 0) return undefined;
    checkReply(written, request);
    return written;
  }

  function checkReply(written: Buffer, request: Buffer): void {
    expect(written.readUInt32LE(0)).to.equal(written.length);
    expect(written.subarray(8, 16).equals(request.subarray(8, 16))).to.equal(true);
    const errno = layout.errnoOfReply(written);
    expect(errno).to.be.within(0, 4095);
    if (errno !== 0) expect(written.length).to.equal(16);
  }

  function worker(): (request: Buffer) => Buffer | undefined {
    const data = new DataDesk(fakeServed('directory').data, new Complaints((message) => logs.push(message)));
    const inHand = new Uint32Array(2);
    const loop = { desk: data, inHand, forward: () => undefined, trace: undefined };
    const buffer = Buffer.alloc(layout.REQUEST_BYTES);
    return (request) => {
      buffer.fill(0xa5, 0, 4096);
      request.copy(buffer);
      const length = dispatch(loop, buffer, request.length);
      expect(length === FORWARDED || length >= 0).to.equal(true);
      if (length <= 0) return undefined;
      const written = data.reply.subarray(0, length);
      checkReply(written, request);
      traceLine(buffer.subarray(0, request.length), data.reply, length);
      return Buffer.from(written);
    };
  }

  it('answers the recorded ones', () => {
    expect(reply(recorded('lookup'))?.readUInt32LE(16)).to.equal(INODES.small);
    expect(reply(recorded('open'))?.length).to.equal(32);
    const handle = reply(recorded('opendir'))!.readUInt32LE(16);
    const readdir = recorded('readdir');
    readdir.writeUInt32LE(handle, 40);
    expect(reply(readdir)?.length).to.equal(16 + 240);
    expect(reply(recorded('statfs'))?.length).to.equal(96);
    const asked = worker();
    for (const by of [reply, asked]) {
      expect(
        by(recorded('read'))
          ?.subarray(16)
          .equals(pattern(2 ** 32, 4096)),
      ).to.equal(true);
      expect(by(recorded('lseek'))?.readBigUInt64LE(16)).to.equal(BigInt(BIG_SIZE));
    }
  });

  it('reads nothing past 2^53, and fails a size it never agreed to', () => {
    const asked = worker();
    for (const by of [reply, asked]) {
      const far = recorded('read');
      far.writeBigUInt64LE(2n ** 63n - 4096n, 48);
      expect(by(far)?.length).to.equal(16);
      expect(layout.errnoOfReply(by(far)!)).to.equal(0);
      const large = recorded('read');
      large.writeUInt32LE(2 ** 20 + 1, 56);
      expect(layout.errnoOfReply(by(large)!)).to.equal(5);
    }
  });

  it('leaves what needs no reply without one', () => {
    for (const opcode of [OPCODE.FORGET, OPCODE.BATCH_FORGET, OPCODE.NOTIFY_REPLY]) {
      const request = recorded('statfs');
      request.writeUInt32LE(opcode, 4);
      expect(reply(request)).to.equal(undefined);
      expect(worker()(request)).to.equal(undefined);
    }
  });

  it('answers each recorded request cut short at every length, once or (without a header) not at all', () => {
    const asked = worker();
    for (const name of Object.keys(RECORDED) as (keyof typeof RECORDED)[]) {
      const whole = recorded(name);
      for (let length = 0; length < whole.length; length++) {
        const cut = Buffer.from(whole.subarray(0, length));
        const answer = reply(cut);
        if (length < layout.REQUEST_HEADER) expect(answer, `${name} ${length}`).to.equal(undefined);
        else expect(layout.errnoOfReply(answer!), `${name} ${length}`).to.equal(22);
        if (length < layout.REQUEST_HEADER) continue;
        asked(cut);
        // The same, claiming to be whole.
        cut.writeUInt32LE(length, 0);
        expect(reply(cut), `${name} ${length}`).not.to.equal(undefined);
        asked(cut);
        traceLine(cut, cut, 0);
      }
    }
  });

  it('survives random bytes', () => {
    const random = new Random();
    const asked = worker();
    for (let round = 0; round < 3000; round++) {
      const request = random.bytes(random.below(160));
      if (request.length >= layout.REQUEST_HEADER && random.below(8) > 0) {
        request.writeUInt32LE(request.length, 0);
        request.writeUInt32LE(random.below(64), 4);
        if (random.below(2) === 0) request.writeBigUInt64LE(BigInt(random.below(20)), 16);
        if (request.length >= 64 && random.below(2) === 0) request.writeUInt32LE(random.below(8192), 56);
      }
      reply(request);
      if (request.length >= layout.REQUEST_HEADER) asked(request);
    }
  });

  it('never throws whatever the servers do', () => {
    const bad = fakeServed('directory');
    const throws = (): never => {
      throw new TypeError('a bug');
    };
    const results = [-1, Number.NaN, 2 ** 30, 1.5e300];
    const data = { ...bad.data, read: () => results.pop() ?? throws(), seek: throws };
    const names = { ...bad.names, lookup: throws, attributes: throws, entries: throws, open: throws, space: throws };
    const fragile = new FrontDesk(
      { ...bad, data, names },
      { fd, readOnly: true, log: (m) => logs.push(m), trace: true },
    );
    for (const name of [
      'lookup',
      'open',
      'opendir',
      'statfs',
      'read',
      'read',
      'read',
      'read',
      'read',
      'lseek',
    ] as const) {
      fragile.take(recorded(name));
      const written = readFileSync(files.path('device')).subarray(taken);
      taken += written.length;
      checkReply(written, recorded(name));
      expect(layout.errnoOfReply(written), name).to.equal(5);
    }
  });
});

describe('complaints', () => {
  it('says each thing once in a while, few things at a time, and counts the rest', () => {
    const said: string[] = [];
    let now = 0;
    const complaints = new Complaints(
      (message) => said.push(message),
      () => now,
    );
    for (let n = 0; n < 100; n++) complaints.tell('read of inode 3', new ImgfsError('io', `block ${n % 50} is bad`));
    expect(said).to.have.length(5);
    now = 11_000;
    complaints.tell(`read of inode ${ROOT}`, new ImgfsError('io', 'block 1 is bad'));
    expect(said.slice(5)).to.deep.equal(['95 more requests failed since then', 'read of inode 1: block 1 is bad']);
  });
});
