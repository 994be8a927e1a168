#!/usr/bin/env bash
# Measures Corral on the parts that the tests run on, and fails where a bound is missed; arguments go to the benchmark.
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# shellcheck source=scripts/testbed.sh
source "$SCRIPTS/testbed.sh"

testbed_up
cd "$REPO"
# Everything is built before anything is measured, and corral by itself, as it is installed.
cargo build --release --locked -p corral-tests --bin bench
cargo build --release --locked -p corral-cli
target="$(target_dir)/release"
export CORRAL_TEST_BINARY="$target/corral"
"$target/bench" "$@"
