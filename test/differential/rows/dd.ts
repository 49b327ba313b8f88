import { fails, makes, type Row } from '../row.js';

// qemu-img writes the zeros too.
export const rows: readonly Row[] = [
  makes('dd if=a.raw of=new.raw', 'new.raw', { layout: 'free' }),
  makes('dd if=a.qcow2 of=new.raw', 'new.raw', { layout: 'free' }),
  makes('dd -f qcow2 -O qcow2 if=a.qcow2 of=new.qcow2', 'new.qcow2', { layout: 'free' }),
  makes('dd -O qcow2 bs=64k count=3 if=a.qcow2 of=new.qcow2', 'new.qcow2', { layout: 'free' }),
  makes('dd bs=1M count=2 if=top.qcow2 of=new.raw', 'new.raw', { layout: 'free' }),
  makes('dd bs=1M skip=1 if=a.qcow2 of=new.raw', 'new.raw', { layout: 'free' }),
  makes('dd bs=64k skip=2 count=10 if=a.qcow2 of=new.raw', 'new.raw', { layout: 'free' }),
  makes('dd if=packed.qcow2 of=new.raw bs=3000', 'new.raw', { layout: 'free' }),
  makes('dd -O vmdk if=a.raw of=new.vmdk', 'new.vmdk', { layout: 'free' }),
  makes('dd -U if=a.qcow2 of=new.raw', 'new.raw', { locked: 'a.qcow2', layout: 'free' }),
  fails('dd', [/Must specify both/, /./]),
  fails('dd if=a.raw', [/Must specify both/, /of=/]),
  fails('dd of=new.raw', [/Must specify both/, /if=/]),
  fails('dd if=nobody of=new.raw', [/No such file/, /no such file/]),
  fails('dd if=a.raw of=new.raw wat=1', [/wat/, /wat/]),
  fails('dd if=a.raw of=new.raw bs=0', [/Invalid bs/, /bs/]),
  fails('dd if=a.raw of=new.raw bs=x', [/Invalid bs/, /bs/]),
  fails('dd if=a.raw of=new.raw count=x', [/Invalid count/, /count/]),
  fails('dd -O wat if=a.raw of=new.raw', [/Unknown file format/, /wat/]),
  fails('dd -f qcow2 if=a.raw of=new.raw', [/not in qcow2 format/, /qcow2/]),
  fails('dd if=a.raw of=nowhere/new.raw', [/No such file/, /no such file/]),
  fails('dd if=a.qcow2 of=new.raw', [/lock/, /in use/], { locked: 'a.qcow2' }),
];
