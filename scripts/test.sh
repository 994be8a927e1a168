#!/usr/bin/env bash
# Runs all tests, on a real Docker engine and a real llama-server; arguments go to cargo test.
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# shellcheck source=scripts/testbed.sh
source "$SCRIPTS/testbed.sh"

testbed_up
cd "$REPO"
cargo test --workspace --locked --no-fail-fast "$@"
