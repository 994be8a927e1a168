#!/usr/bin/env bash
# Installs what is missing for: build (the default), run, test; name one or several.
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

packages=()

# need PACKAGE COMMAND...: PACKAGE, unless COMMAND works.
need() {
  local package="$1"
  shift
  "$@" >/dev/null 2>&1 || [[ " ${packages[*]} " == *" $package "* ]] || packages+=("$package")
}

c_headers() {
  printf '#include <stdio.h>\n' | cc -E - >/dev/null
}

ca_bundle() {
  [[ -s /etc/ssl/certs/ca-certificates.crt || -s /etc/pki/tls/certs/ca-bundle.crt || -s /etc/ssl/cert.pem ]]
}

for set in "${@:-build}"; do
  case "$set" in
    build) # the bundled SQLite is C
      have cargo || die "there is no cargo" "Corral is written in Rust" \
        "install Rust with rustup (https://rustup.rs); the version it takes is rust-version in Cargo.toml"
      need gcc have cc
      need libc6-dev c_headers
      need ca-certificates ca_bundle
      ;;
    run)
      need curl have curl
      need jq have jq
      ;;
    test)
      need curl have curl
      need jq have jq
      compgen -G "$CORRAL_CACHE/tools/claude-code-*/claude" >/dev/null || need npm have npm
      if ! docker_engine >/dev/null; then # another engine's packages would clash with these
        need docker.io have dockerd
        need docker.io have docker
        need iptables have iptables
      fi
      ;;
    *) die "there is no set '$set'" "the sets are build, run and test" "name one or several of them" ;;
  esac
done

if ((${#packages[@]})); then
  have apt-get || die "missing on this machine, in Debian's names: ${packages[*]}" \
    "only apt-get is known here, and this machine has none" "install those by hand and start again"
  apt_install "${packages[@]}"
  # Newer Debians have the client in a package of its own.
  if [[ " ${packages[*]} " == *" docker.io "* ]] && ! have docker; then
    apt_install docker-cli
  fi
fi
say "all there for: ${*:-build}"
