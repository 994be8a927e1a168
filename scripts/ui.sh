#!/usr/bin/env bash
# Builds the dashboard into ui/dist, from where cargo takes it into the program. Does nothing where it is current.
# Without npm, or without the sources, the program is built without it, and its page says so.
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# shellcheck source=scripts/node.sh
source "$SCRIPTS/node.sh"

[[ -e "$REPO/ui/package.json" ]] || exit 0
cd "$REPO/ui"
if ! use_node; then
  say "npm is not here: the dashboard is not built, everything else is"
  exit 0
fi

# What is older than the page has gone into it.
current() {
  [[ -e dist/index.html ]] || return 1
  [[ -z "$(find . -path ./node_modules -prune -o -path ./dist -prune -o -type f -newer dist/index.html -print -quit)" ]]
}

if current; then
  exit 0
fi
say "building the dashboard"
# As it is locked, and nothing of it is run but its build.
if [[ ! -e node_modules/.package-lock.json || package-lock.json -nt node_modules/.package-lock.json ]]; then
  npm install --no-save --ignore-scripts --no-audit --no-fund --loglevel=error >&2 ||
    die "could not install what the dashboard is built with" "npm said the above" "start again when that is mended"
fi
npm run --silent build >&2 || die "the dashboard was not built" "npm said the above" "mend it and start again"
