#!/bin/sh
# A real systemd, as the first process of namespaces of its own and beneath control groups of its own.
#   systemd.sh start GROUP MEMINFO          as root; ends with whoever it was started by
#   systemd.sh enter GROUP PID COMMAND...   runs a command beside that systemd, whose process here is PID
#   systemd.sh clean GROUP                  removes the control groups
# It ends with 77 where this machine does not let it make what systemd needs.
set -eu

cannot() {
  printf '%s\n' "$1" >&2
  exit 77
}

mounts() { # where control groups are mounted, of which version, with which options
  awk '$3 == "cgroup" || $3 == "cgroup2" { print $2, $3, $4 }' /proc/self/mounts
}

case $1 in
start)
  bounds=
  while read -r at kind options; do
    mkdir "$at/$2" || cannot "control groups cannot be made in $at"
    case $kind,$options, in
    cgroup,*,memory,*) bounds=yes ;;
    cgroup2,*)
      # Which controllers there are for groups beneath.
      if grep -qw memory "$at/cgroup.controllers"; then
        echo +memory >"$at/cgroup.subtree_control" || cannot "the memory controller cannot be passed on in $at"
        bounds=yes
      fi
      ;;
    esac
    for file in cpuset.cpus cpuset.mems; do
      # Of version 1: nobody may run in a group that has none.
      if [ -e "$at/$2/$file" ] && [ ! -s "$at/$2/cgroup.controllers" ]; then cat "$at/$file" >"$at/$2/$file"; fi
    done
    echo $$ >"$at/$2/cgroup.procs"
  done <<EOF
$(mounts)
EOF
  [ "$bounds" ] || cannot 'no control group here bounds memory'
  exec setpriv --pdeathsig KILL unshare --pid --fork --kill-child --mount --cgroup "$0" inside "$3"
  ;;
inside)
  mount --make-rprivate /
  mount -t proc proc /proc
  mounts | while read -r at kind options; do
    only=$(printf %s "$options" | tr , '\n' | grep -vxE 'rw|ro|nosuid|nodev|noexec|relatime|nsdelegate|memory_.*' | paste -sd,)
    case $only in name=*) only=none,$only ;; esac
    umount "$at"
    mount -t "$kind" ${only:+-o "$only"} "$kind" "$at"
  done
  mount -t tmpfs -o mode=755 tmpfs /run
  # The kernel lets nobody mount a /proc that shows more than all that are there.
  mkdir -p /run/proc /run/dbus /run/lock /run/systemd/system
  mount -t proc proc /run/proc
  mount --bind "$2" /proc/meminfo
  cd /run/systemd/system
  printf '[Unit]\nDefaultDependencies=no\nRequires=dbus.service\n' >test.target
  printf '[Unit]\nDefaultDependencies=no\n[Socket]\nListenStream=/run/dbus/system_bus_socket\n' >dbus.socket
  printf '[Unit]\nDefaultDependencies=no\nRequires=dbus.socket\n[Service]\nType=notify\nExecStart=%s\n' \
    "$(command -v dbus-daemon) --system --address=systemd: --nofork --nopidfile --systemd-activation" >dbus.service
  export container=test
  exec /lib/systemd/systemd --system --unit=test.target --log-target=console --show-status=no
  ;;
enter)
  group=$2 pid=$3
  shift 3
  mounts | while read -r at _; do
    if [ -d "$at/$group/init.scope" ]; then echo $$ >"$at/$group/init.scope/cgroup.procs"; fi
  done
  exec nsenter --target "$pid" --pid --mount --cgroup --wd="$PWD" -- "$@"
  ;;
clean)
  mounts | while read -r at _; do
    if [ -d "$at/$2" ]; then find "$at/$2" -depth -type d -exec rmdir {} +; fi
  done
  ;;
esac
