#!/bin/sh
# A root of its own for what installs and removes, over this machine's, which stays as it is:
#   root.sh BASE SHARED...   as root, in a mount namespace of its own; says "ready", and ends with its input
# BASE is an empty folder; the SHARED folders are this machine's in there, too.
set -eu

base=$1
shift
mount -t tmpfs -o mode=755 tmpfs "$base"
mkdir "$base/upper" "$base/work" "$base/root"
mount -t overlay -o "lowerdir=/,upperdir=$base/upper,workdir=$base/work" overlay "$base/root"
for folder in /dev /proc /sys; do
  mount --rbind "$folder" "$base/root$folder"
done
mount -t tmpfs -o mode=755 tmpfs "$base/root/run"
# Other disks' folders, and single files that containers have.
others=$(findmnt -rno TARGET | grep -vE '^/((dev|proc|sys|run)(/|$)|$)' | grep -vF "$base" | sort -u)
for place in $others "$@"; do
  if [ -d "$place" ]; then
    mkdir -p "$base/root$place"
    mount --bind "$place" "$base/root$place"
  elif [ -f "$place" ]; then
    mount --bind "$place" "$base/root$place"
  fi
done
# What is other in there than on this machine.
mkdir "$base/root/run/changes"
mount --bind "$base/upper" "$base/root/run/changes"
cd "$base/root"
pivot_root . .
umount -l .
cd /
echo ready
exec cat >/dev/null
