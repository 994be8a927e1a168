#!/usr/bin/env bash
# Runs all tests, on a real Docker engine and a real llama-server; arguments go to cargo test.
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# shellcheck source=scripts/node.sh
source "$SCRIPTS/node.sh"
# shellcheck source=scripts/testbed.sh
source "$SCRIPTS/testbed.sh"

testbed_up
use_node
cd "$REPO"
failed=0
# With arguments, some of cargo's tests are meant.
if (($# == 0)) || [[ " $* " == *" package "* ]]; then
  CORRAL_TEST_PACKAGE="$("$SCRIPTS/package.sh" --debug)"
  export CORRAL_TEST_PACKAGE
fi
# All of them have the time to fuzz for a minute.
if (($# == 0)); then
  export CORRAL_FUZZ_SECONDS="${CORRAL_FUZZ_SECONDS:-60}"
fi
cargo test --workspace --locked --no-fail-fast "$@" || failed=1
if (($# == 0)); then
  CORRAL_TEST_BINARY="$(target_dir)/debug/corral"
  export CORRAL_TEST_BINARY
  cargo build --workspace --locked --bins
  (cd ui && npm test --silent && npm run --silent e2e) || failed=1
fi
exit "$failed"
