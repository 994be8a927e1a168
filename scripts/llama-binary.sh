#!/usr/bin/env bash
# Writes an executable that runs llama-server, this machine's own or the one of scripts/llama-root.sh: DEST.
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

(($# == 1)) || die "where to?" "the path of the executable to write is missing" "scripts/llama-binary.sh DEST"
dest="$1"

native="$(command -v llama-server || true)"
if [[ -n "$native" && ! "$native" -ef "$dest" ]] && "$native" --version >/dev/null 2>&1 </dev/null; then
  program="$native"
else
  program="$("$SCRIPTS/llama-root.sh")/launch"
fi

mkdir -p "$(dirname "$dest")"
new="$(mktemp "$dest.XXXXXX")"
trap 'rm -f "$new"' EXIT
printf '#!/bin/bash\n# Written by scripts/llama-binary.sh.\nexec %q "$@"\n' "$program" >"$new"
chmod 755 "$new"
mv "$new" "$dest"
say "$dest runs $program"
