# shellcheck shell=bash
# Shared by the scripts beside it, which source it; does nothing by itself.
set -euo pipefail

export HOME="${HOME:-"$(getent passwd "$(id -u)" | cut -d: -f6)"}"
# A CI shell or an ordinary user's may lack the folders of cargo and of dockerd.
PATH="$PATH:${CARGO_HOME:-$HOME/.cargo}/bin:/usr/sbin:/sbin"

REPO="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
# shellcheck disable=SC2034 # for those who source this
SCRIPTS="$REPO/scripts"
# shellcheck disable=SC2034
CORRAL_CACHE="${XDG_CACHE_HOME:-$HOME/.cache}/corral"

# say TEXT: one line for the person watching; standard output stays free for results.
say() {
  printf 'corral: %s\n' "$*" >&2
}

# die WHAT WHY TODO: ends the script.
die() {
  printf 'corral: %s\n  why:  %s\n  then: %s\n' "$1" "$2" "$3" >&2
  exit 1
}

have() {
  command -v "$1" >/dev/null 2>&1
}

# as_root COMMAND...: with the rights to change this machine, or not at all.
as_root() {
  if ((EUID == 0)); then
    "$@"
  elif ! have sudo; then
    die "cannot run as root: $*" "this is an ordinary user and there is no sudo" \
      "run that command as root, then start again"
  elif [[ -t 0 ]]; then
    sudo "$@"
  else
    sudo -n "$@" ||
      die "sudo failed: $*" "without a terminal sudo cannot ask for a password" \
        "run that command as root, then start again"
  fi
}

# apt_install PACKAGE...: those that are missing, without what they only recommend.
apt_install() {
  local package missing=() log
  for package in "$@"; do
    [[ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" == installed ]] || missing+=("$package")
  done
  ((${#missing[@]})) || return 0
  say "installing ${missing[*]}"
  log="$(mktemp)"
  as_root apt-get -q -o DPkg::Lock::Timeout=120 update >"$log" 2>&1 ||
    say "the package lists could not all be refreshed; trying with those at hand"
  if ! as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=120 \
    install --no-install-recommends "${missing[@]}" >>"$log" 2>&1 </dev/null; then
    tail -n 20 "$log" >&2
    rm -f "$log"
    die "could not install ${missing[*]}" "apt-get said the above" "install them by hand and start again"
  fi
  rm -f "$log"
}

# The version of the Docker engine that answers; fails when none does.
docker_engine() {
  have docker && timeout 10 docker version --format '{{.Server.Version}}' 2>/dev/null
}

# The folder cargo builds into, wherever the user's own settings put it.
target_dir() {
  cargo metadata --manifest-path "$REPO/Cargo.toml" --no-deps --format-version 1 --locked | jq -r .target_directory
}
