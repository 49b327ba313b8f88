#!/bin/sh
# Installs the system packages that "run", "test" or "bench" needs and the machine lacks: as root with apt-get; else it
# says what is missing, and what follows from that is told where it is met.
set -eu

PATH=$PATH:/usr/sbin:/sbin
export PATH
missing=

# need PROGRAM PACKAGE...: the first of the packages that the machine's release has.
need() {
  program=$1
  shift
  command -v "$program" >/dev/null 2>&1 || [ -e "$program" ] || missing="$missing $(available "$@")"
}

available() {
  for package in "$@"; do
    if apt-cache show "$package" >/dev/null 2>&1; then
      echo "$package"
      return
    fi
  done
  echo "$1"
}

check() {
  missing=
  need fusermount3 fuse3
  need mke2fs e2fsprogs
  [ "$1" = run ] && return
  need qemu-img qemu-utils
  need qemu-storage-daemon qemu-system-common
  need fio fio
  need losetup mount
  [ -e /usr/lib/x86_64-linux-gnu/libfuse.so.2 ] || [ "$(uname -m)" != x86_64 ] ||
    need libfuse.so.2 libfuse2 libfuse2t64
  if [ "$1" = bench ]; then
    need bonnie++ bonnie++
    need mkfs.xfs xfsprogs
    return
  fi
  need qcowmount libqcow-utils
  need uml_moo uml-utilities
  need strace strace
  need cryptsetup cryptsetup-bin
  need mkfs.xfs xfsprogs
  need mkfs.btrfs btrfs-progs
  need vmdkmount libvmdk-utils
}

check "$1" || true
[ -n "$missing" ] || exit 0

if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then
  echo "missing:$missing"
  echo "install with: sudo apt-get install -y$missing"
  exit 0
fi
# A machine that was never updated knows no package: only then is its list of packages fetched.
apt-cache show fuse3 >/dev/null 2>&1 || { apt-get update -qq && check "$1" || true; }
echo "installing:$missing"
install() { DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null; }
install || { apt-get update -qq && install; }
