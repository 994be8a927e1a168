#!/usr/bin/env bash
# Starts a Docker engine where none answers, stops the one it started, says whether one answers: start | stop | status.
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

state="${XDG_STATE_HOME:-$HOME/.local/state}/corral-testbed"
pid_file="$state/dockerd.pid"
log="$state/dockerd.log"

# The process that an earlier start left running, if it is still that one.
ours() {
  local pid
  pid="$(cat "$pid_file" 2>/dev/null)" || return 1
  [[ "$pid" =~ ^[0-9]+$ ]] || return 1
  tr '\0' '\n' 2>/dev/null <"/proc/$pid/cmdline" | grep -qxF -- "--pidfile=$pid_file" || return 1
  printf '%s\n' "$pid"
}

# Becomes dockerd, cut off from the terminal and from every descriptor of the caller: a shell that waits for its
# output to close must not wait for the engine.
become_dockerd() {
  local fd
  for fd in /proc/self/fd/*; do
    fd="${fd##*/}"
    if ((fd > 2)); then
      exec {fd}>&-
    fi
  done
  cd /
  exec setsid nohup dockerd "--pidfile=$pid_file"
}

start() {
  local version pid deadline
  if version="$(docker_engine)"; then
    say "a Docker engine answers already: $version"
    return
  fi
  [[ -z "${DOCKER_HOST:-}" ]] || die "no Docker engine answers at DOCKER_HOST=$DOCKER_HOST" \
    "DOCKER_HOST names an engine, so none is started" "start that engine, or unset DOCKER_HOST"
  ((EUID == 0)) || die "no Docker engine answers this user" \
    "it is not running, or only root and the group docker may ask it" \
    "start Docker and see that 'docker version' works for this user, or run as root"
  have dockerd || die "there is no Docker engine to start" \
    "dockerd is not installed; a docker command alone is only a client" "run scripts/setup.sh test"
  mkdir -p "$state"
  say "starting dockerd, log in $log"
  become_dockerd >"$log" 2>&1 </dev/null &
  pid=$!
  deadline=$((SECONDS + 60))
  until version="$(docker_engine)"; do
    if ! kill -0 "$pid" 2>/dev/null || ((SECONDS >= deadline)); then
      kill "$pid" 2>/dev/null || true
      tail -n 20 "$log" >&2
      die "dockerd did not come up" "it said the above" "read $log, mend that and start again"
    fi
    sleep 0.1
  done
  say "Docker engine $version answers"
}

stop() {
  local pid deadline
  if ! pid="$(ours)"; then
    say "no Docker engine was started from here"
    return
  fi
  kill "$pid"
  deadline=$((SECONDS + 60))
  while kill -0 "$pid" 2>/dev/null; do
    ((SECONDS < deadline)) || die "dockerd (process $pid) does not end" "it was asked to 60 seconds ago" "read $log"
    sleep 0.1
  done
  say "stopped the Docker engine that was started from here"
}

status() {
  local version
  if version="$(docker_engine)"; then
    say "Docker engine $version answers"
  else
    say "no Docker engine answers"
    return 1
  fi
}

case "${1:-}" in
  start | stop | status) "$1" ;;
  *) die "unknown command '${1:-}'" "there are start, stop and status" "scripts/docker.sh start|stop|status" ;;
esac
