import { fails, makes, type Row, tells } from '../row.js';

const SOUND = ['a.qcow2', 'old.qcow2', 'small.qcow2', 'ext.qcow2', 'blank.qcow2', 'huge.qcow2', 'packed.qcow2'];
const OTHERS = ['snap.qcow2', 'bits.qcow2', 'top.qcow2'];

export const rows: readonly Row[] = [
  ...[...SOUND, ...OTHERS].flatMap((name) => [tells(`check ${name}`), tells(`check --output=json ${name}`)]),
  tells('check -f qcow2 a.qcow2'),
  tells('check -q a.qcow2'),
  tells('check -T writeback a.qcow2'),
  fails('check -T wat a.qcow2', [/[Ii]nvalid source cache/, /cache mode/]),
  tells('check -U a.qcow2', { locked: 'a.qcow2' }),
  tells('check leaky.qcow2', { code: 3 }),
  tells('check --output=json leaky.qcow2', { code: 3 }),
  tells('check -q leaky.qcow2', { code: 3 }),
  tells('check corrupt.qcow2', { code: 2 }),
  tells('check --output=json corrupt.qcow2', { code: 2 }),
  tells('check dirty.qcow2'),
  makes('check -r leaks leaky.qcow2', 'leaky.qcow2'),
  makes('check -r all leaky.qcow2', 'leaky.qcow2'),
  makes('check -r all --output=json leaky.qcow2', 'leaky.qcow2'),
  makes('check -q -r all corrupt.qcow2', 'corrupt.qcow2'),
  makes('check -r all dirty.qcow2', 'dirty.qcow2'),
  tells('check -r all a.qcow2'),
  fails('check a.raw', [/does not support checks/, /does not support checks/], { code: 63 }),
  fails('check --output=json a.raw', [/does not support checks/, /does not support checks/], { code: 63 }),
  fails('check', [/Expecting one/, /argument/]),
  fails('check nobody', [/No such file/, /no such file/]),
  fails('check folder.d', [/regular file/, /directory/]),
  fails('check -r some a.qcow2', [/-r/, /repair/]),
  fails('check -f qcow2 a.raw', [/not in qcow2 format/, /qcow2/]),
  fails('check -f wat a.raw', [/wat/, /wat/]),
  fails('check --output=xml a.qcow2', [/json/, /json/]),
  fails('check -r all a.qcow2', [/lock/, /in use|lock|uses/], { locked: 'a.qcow2' }),
  fails('check a.qcow2', [/lock/, /in use|lock|uses/], { locked: 'a.qcow2' }),
];
