#!/usr/bin/env bash
# Measures Corral on the parts that the tests run on; arguments go to the benchmark.
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# shellcheck source=scripts/testbed.sh
source "$SCRIPTS/testbed.sh"

testbed_up
cd "$REPO"
cargo run --release --locked -p corral-tests --bin bench -- "$@"
