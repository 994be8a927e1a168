#!/usr/bin/env bash
# Checks what needs no test bed: format, lints, dependencies, and that the committed descriptions are current.
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# shellcheck source=scripts/node.sh
source "$SCRIPTS/node.sh"

cargo_deny=0.20.2

# current FILE ARGUMENT...: FILE is what `corral schema ARGUMENT...` prints.
current() {
  local file="$1"
  shift
  cargo run -q --locked -p corral-cli -- schema "$@" | diff -u "$file" - ||
    die "$file is out of date" "it is not what 'corral schema $*' prints" "cargo run -p corral-cli -- schema $* >$file"
}

cd "$REPO"
"$SCRIPTS/setup.sh" build desktop
"$SCRIPTS/ui.sh"
use_node ||
  die "there is no npm" "the dashboard is checked with it" "install Node.js 20.19 or later, and start again"

say "format"
cargo fmt --all --check

say "lints"
cargo clippy --workspace --all-targets --locked -- -D warnings

say "descriptions"
current docs/models.schema.json
current docs/openapi.json --openapi

say "dashboard"
(cd ui && npm run --silent check)

say "dependencies"
tools="$CORRAL_CACHE/tools"
PATH="$tools/bin:$PATH"
if [[ "$(cargo deny --version 2>/dev/null)" != "cargo-deny $cargo_deny" ]]; then
  say "building cargo-deny $cargo_deny, once, in some minutes"
  cargo install --locked --quiet --root "$tools" "cargo-deny@$cargo_deny"
fi
cargo deny --locked check bans licenses sources
# The advisories are a repository of their own, which not every build machine can reach.
if cargo deny --locked fetch db; then
  cargo deny --locked check advisories
  say "all is well"
else
  say "all is well, but the security advisories were NOT checked: their database could not be fetched"
fi
