/**
 * Where imgfs does not do what qemu-img 7.2 does, why, and command lines that show it. The README lists them from
 * here; whatever is not here is the same.
 */
import { type DifferentRow, differs } from './row.js';

export interface Difference {
  readonly what: string;
  readonly why: string;
  readonly rows: readonly DifferentRow[];
}

export const DIFFERENCES: readonly Difference[] = [
  {
    what: '`create` prints every option with its value, size first, and only when the image is made',
    why: 'what failed was not formatted',
    rows: [
      differs('create -f qcow2 new.qcow2 1M', [0, /lazy_refcounts=off/], [0, /size=1048576 .*compat=1.1/]),
      differs('create -f qcow2 nowhere/new.qcow2 1M', [1, /Formatting/], [1, /^imgfs: .*no such file/]),
    ],
  },
  {
    what: '`create -o help` has other words',
    why: 'names, values and defaults are the same; the sentences are ours',
    rows: [differs('create -f qcow2 -o help', [0, /cluster_size=<size>/], [0, /cluster_size=SIZE/])],
  },
  {
    what: '`info`, `map` and `snapshot -l` read an image that another process writes, with a warning',
    why: 'looking does no harm, and the line says that it may be out of date',
    rows: [
      differs('info a.qcow2', [1, /lock/], [0, /warning: .*in use/], { locked: 'a.qcow2' }),
      differs('map a.qcow2', [1, /lock/], [0, /warning: .*in use/], { locked: 'a.qcow2' }),
      differs('snapshot -l snap.qcow2', [1, /lock/], [0, /warning: .*in use/], { locked: 'snap.qcow2' }),
    ],
  },
  {
    what: '`info` tells the exact size of a raw file that is no whole number of sectors; JSON has `schema` and `exact-size` too',
    why: 'the mounted file has that size',
    rows: [differs('info odd.raw', [0, /\(100352 bytes\)/], [0, /exact size: 100001 bytes/])],
  },
  {
    what: 'every verb that prints JSON says `schema`, but `map`, whose JSON is a list; in that of `info --backing-chain` each object says it',
    why: 'whoever reads it can tell what it is',
    rows: [
      differs('check --output=json a.qcow2', [0, /"check-errors": 0/], [0, /"schema"/]),
      differs('measure --output=json --size 1G', [0, /"required"/], [0, /"schema"/]),
    ],
  },
  {
    what: '`measure` needs no passphrase of an encrypted image',
    why: 'only its length is counted',
    rows: [differs('measure -O qcow2 aes.qcow2', [1, /encrypt\.key-secret/], [0, /required size/])],
  },
  {
    what: '`amend -o compat=0.10` refuses images with bitmaps or with zstd, and `encrypt.*` is not amended',
    why: 'the bitmaps would be lost, and version 2 knows no zstd; `imgfs key` changes the key slots',
    rows: [
      differs('amend -o compat=0.10 bits.qcow2', [0, /^$/], [1, /bitmap/]),
      differs('amend -o compat=0.10 plain-zstd.qcow2', [0, /^$/], [1, /zstd/]),
    ],
  },
  {
    what: '`map` prints disks that are not stored as they are, and JSON says `compressed`',
    why: 'qemu-img of later versions says it in the same way',
    rows: [differs('map packed.qcow2', [1, /./], [0, /compressed/])],
  },
  {
    what: '`check` knows qcow, tells of vdi and vmdk how much is allocated, and mends them',
    why: 'more formats are checked',
    rows: [
      differs('check a.qcow', [63, /does not support checks/], [0, /No errors were found/]),
      differs('check a.vdi', [0, /No errors/], [0, /allocated/]),
      differs('check --output=json stream.vmdk', [0, /"check-errors"/], [0, /"allocated-clusters"/]),
      differs('check -r leaks a.vmdk', [63, /does not support checks/], [0, /No errors were found/]),
    ],
  },
  {
    what: '`check` opens no file but the image',
    why: 'what lies below is neither needed nor trusted',
    rows: [differs('check lost.qcow2', [1, /No such file/], [0, /No errors were found/])],
  },
  {
    what: '`check -r` mends wrong reference counts where they are',
    why: 'qemu-img builds all of them anew behind the image, counts that as one, and refuses it for `-r leaks`',
    rows: [
      differs('check -r all corrupt.qcow2', [0, /1 corruptions/], [0, /2 corruptions/]),
      differs('check -r leaks corrupt.qcow2', [1, /Check failed/], [2, /2 errors were found/]),
    ],
  },
  {
    what: '`resize` also does vdi, vmdk and qcow',
    why: 'more formats can be resized',
    rows: [
      differs('resize a.vdi 9M', [1, /does not support resize/], [0, /Image resized/]),
      differs('resize static.vdi 9M', [1, /does not support resize/], [0, /Image resized/]),
      differs('resize a.vmdk 9M', [1, /does not support resize/], [0, /Image resized/]),
      differs('resize a.qcow 9M', [1, /does not support resize/], [0, /Image resized/]),
    ],
  },
  {
    what: '`rebase` knows qcow, and takes no `-F` there',
    why: 'it has no place for the format of what lies below, which is looked for',
    rows: [
      differs('rebase -u -b base.qcow2 a.qcow', [1, /format must be specified/], [0, /^$/]),
      differs('rebase -b base.qcow2 -F qcow2 a.qcow', [1, /not supported/], [1, /leave out -F/]),
    ],
  },
  {
    what: '`dd` refuses to copy a disk into itself',
    why: 'qemu-img empties the file before it reads it',
    rows: [differs('dd -f raw if=a.raw of=a.raw', [0, /^$/], [1, /cannot be copied into itself/])],
  },
  {
    what: '`snapshot -d` takes an id where no snapshot has that name',
    why: 'a name may be empty, or that of several',
    rows: [differs('snapshot -d 3 snap.qcow2', [1, /Could not delete/], [0, /^$/])],
  },
  {
    what: '`snapshot` without a letter lists',
    why: 'qemu-img does nothing',
    rows: [differs('snapshot snap.qcow2', [0, /^$/], [0, /second one/])],
  },
  {
    what: 'a new snapshot has no `icount`',
    why: 'no instructions were counted; qemu-img of later versions leaves it out too',
    rows: [differs('snapshot -c new a.qcow2', [0, /^$/], [0, /^$/])],
  },
  {
    what: '`compare -s` does not mind in how many pieces the last hole is told',
    why: 'where nothing is allocated in either disk there is no difference in it',
    rows: [differs('compare -s fine.qcow2 blank.qcow2', [1, /block status mismatch/], [0, /identical/])],
  },
  {
    what: '`convert -l` makes a disk of the size the snapshot had',
    why: 'that is the disk which was taken; qemu-img gives it the size of today',
    rows: [differs('convert -l small -O raw grown.qcow2 new.raw', [0, /^$/], [0, /^$/])],
  },
  {
    what: '`commit` of a vmdk needs `-d`',
    why: 'qemu-img leaves one behind that cannot read what lies below it any more, which has another content id now',
    rows: [differs('commit top.vmdk', [0, /Image committed/], [1, /with -d the image is not kept/])],
  },
  {
    what: 'no `--image-opts`, `--target-image-opts`, `--object` (but for `create`), `json:` names or protocols',
    why: 'files and block devices are named as they are, formats by `-f`, passphrases by `--password-file`',
    rows: [
      differs(
        'info --image-opts driver=qcow2,file.filename=a.qcow2',
        [0, /file format: qcow2/],
        [1, /name the file itself, and its format with -f/],
      ),
      differs(
        'info \'json:{"driver":"qcow2","file":{"driver":"file","filename":"a.qcow2"}}\'',
        [0, /file format: qcow2/],
        [1, /json: is no place imgfs knows/],
        { with: ['a.qcow2'] },
      ),
      differs('compare --object secret,id=s,data=abc a.raw a.qcow2', [0, /identical/], [1, /--password-file/]),
    ],
  },
  {
    what: 'without `-f`, a file named `.raw` is raw whatever it holds, and one named like another format must hold it',
    why: 'else whoever writes the disk chooses its format',
    rows: [
      differs('info really.raw', [0, /file format: qcow2/], [0, /file format: raw/]),
      differs('info zeros.vdi', [0, /file format: raw/], [1, /named like vdi but looks like raw/]),
    ],
  },
  {
    what: 'what fails leaves no new file, and an image as it was',
    why: 'a new image has its name only when it is complete; of several changes to bitmaps all are made or none',
    rows: [
      differs('convert -t wat -O raw a.raw new.raw', [1, /[Ii]nvalid cache/], [1, /unknown cache mode/]),
      differs('bitmap --add bits.qcow2 one', [1, /already/], [1, /already/]),
      differs('bitmap --merge nobody bits.qcow2 one', [1, /not found/], [1, /no bitmap "nobody"/]),
    ],
  },
  {
    what: 'no formats but those of the table below: vpc (vhd), vhdx, qed, parallels and others are known by name only',
    why: 'they are not there yet',
    rows: [
      differs('info a.vhd', [0, /file format: vpc/], [1, /cannot open this format yet/]),
      differs('info -f vpc a.vhd', [0, /file format: vpc/], [1, /cannot open this format yet/]),
      differs('create -f vpc new.vhd 1M', [0, /Formatting/], [1, /cannot be made yet/]),
      differs('create -f qed new.qed 1M', [0, /Formatting/], [1, /cannot be made yet/]),
    ],
  },
  {
    what: 'no `bench`',
    why: 'fio does that, on the mounted view',
    rows: [differs('bench -c 1 -f raw a.raw', [0, /Run completed/], [1, /no verb is called "bench"/])],
  },
  {
    what: 'long options are written in full',
    why: 'an abbreviation means another option one day',
    rows: [differs('map --output=json --start=1M a.raw', [0, /"start"/], [1, /unknown option '--start=1M'/])],
  },
];
