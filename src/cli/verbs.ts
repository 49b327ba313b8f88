/** Every verb there is, in the order of the help: one line each. */
import type { VerbEntry } from './verb.js';

export const verbs: readonly VerbEntry[] = [
  { name: 'info', summary: 'tell what an image is', load: async () => (await import('./info.js')).verb },
  { name: 'map', summary: 'tell where the bytes of a disk lie', load: async () => (await import('./map.js')).verb },
  {
    name: 'check',
    summary: 'tell whether an image is sound, and mend it',
    load: async () => (await import('./check.js')).verb,
  },
  {
    name: 'compare',
    summary: 'tell whether two disks have the same content',
    load: async () => (await import('./compare.js')).verb,
  },
  {
    name: 'diff',
    summary: 'tell in which ranges two disks, or snapshots, differ',
    load: async () => (await import('./diff.js')).verb,
  },
  {
    name: 'convert',
    summary: 'copy disks into another image',
    load: async () => (await import('./convert.js')).verb,
  },
  { name: 'dd', summary: 'copy a part of a disk into a new image', load: async () => (await import('./dd.js')).verb },
  {
    name: 'commit',
    summary: 'write what an image holds into what lies below it',
    load: async () => (await import('./commit.js')).verb,
  },
  { name: 'rebase', summary: 'put another image below one', load: async () => (await import('./rebase.js')).verb },
  { name: 'create', summary: 'make an empty image', load: async () => (await import('./create.js')).verb },
  {
    name: 'measure',
    summary: 'tell how much space an image would take',
    load: async () => (await import('./measure.js')).verb,
  },
  {
    name: 'resize',
    summary: 'give a disk another size',
    load: async () => (await import('./resize.js')).verb,
  },
  {
    name: 'trim',
    summary: 'give back the space of stored zeros',
    load: async () => (await import('./trim.js')).verb,
  },
  {
    name: 'snapshot',
    summary: 'list, take, apply, delete and rename snapshots',
    load: async () => (await import('./snapshot.js')).verb,
  },
  {
    name: 'amend',
    summary: 'change how an image is made: its version, the width of its refcounts',
    load: async () => (await import('./amend.js')).verb,
  },
  {
    name: 'bitmap',
    summary: 'list, add, change and remove the persistent bitmaps of an image',
    load: async () => (await import('./bitmap.js')).verb,
  },
  {
    name: 'key',
    summary: 'list, add and remove the passphrases of a LUKS image',
    load: async () => (await import('./key.js')).verb,
  },
  {
    name: 'mount',
    summary: 'show images as raw files in a directory',
    load: async () => (await import('./mount.js')).verb,
  },
  {
    name: 'umount',
    summary: 'end a mount and wait until its image is released',
    load: async () => (await import('./umount.js')).verb,
  },
  { name: 'list', summary: 'list the mounts', load: async () => (await import('./list.js')).verb },
  {
    name: 'ova',
    summary: 'unpack, pack, verify and retarget appliances, OVA and OVF',
    load: async () => (await import('./ova.js')).verb,
  },
  { name: 'formats', summary: 'list the formats', load: async () => (await import('./formats.js')).verb },
];
