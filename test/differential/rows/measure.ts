import { fails, type Row, tells } from '../row.js';

const SOURCES = ['a.raw', 'a.qcow2', 'ext.qcow2', 'packed.qcow2', 'top.qcow2', 'snap.qcow2', 'bits.qcow2', 'a.vmdk'];

export const rows: readonly Row[] = [
  ...SOURCES.flatMap((name) => [
    tells(`measure -O qcow2 ${name}`),
    tells(`measure --output=json -O qcow2 ${name}`),
    tells(`measure --output=json -O raw ${name}`),
  ]),
  tells('measure --size 1G'),
  tells('measure --size=1G -O raw --output=json'),
  tells('measure --size 5T -O qcow2'),
  tells('measure --size 1G -O qcow2 -o cluster_size=4k'),
  tells('measure --size 1G -O qcow2 -o preallocation=full'),
  tells('measure --size 1G -O qcow2 -o compat=0.10,cluster_size=2M'),
  tells('measure --size 1G -O qcow2 -o extended_l2=on --output=json'),
  tells('measure -f qcow2 -O qcow2 -l first snap.qcow2'),
  tells('measure -U -O qcow2 a.qcow2', { locked: 'a.qcow2' }),
  fails('measure', [/size|filename/i, /size|image/]),
  fails('measure --size 1G a.raw', [/--size/, /size/]),
  fails('measure --size 1X', [/[Ii]nvalid/, /size/]),
  fails('measure nobody', [/No such file/, /no such file/]),
  fails('measure -O wat --size 1G', [/wat/, /wat/]),
  fails('measure -O vdi --size 1G', [/does not support/, /vdi/]),
  fails('measure -O qcow2 -o wat=1 --size 1G', [/wat/, /wat/]),
  fails('measure -l nobody -O qcow2 snap.qcow2', [/snapshot/, /snapshot/]),
  fails('measure --output=xml --size 1G', [/json/, /json/]),
];
