#!/usr/bin/env bash
# Measures Corral on the parts that the tests run on, and fails where a bound is missed; arguments go to the benchmark.
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# shellcheck source=scripts/testbed.sh
source "$SCRIPTS/testbed.sh"

testbed_up
"$SCRIPTS/setup.sh" bench
tools="$CORRAL_CACHE/tools"
CORRAL_BENCH_NGINX="$(command -v nginx || printf '%s' "$tools/nginx/usr/sbin/nginx")"
export CORRAL_BENCH_NGINX CORRAL_BENCH_LITELLM="$tools/litellm/bin/litellm"
if [[ -e "$tools/srt/corral-version" ]]; then
  export CORRAL_BENCH_SRT="$tools/srt/node_modules/.bin/srt"
fi
cd "$REPO"
# Everything is built before anything is measured, and corral by itself, as it is installed.
cargo build --release --locked -p corral-tests --bin bench --bin fixed-answer
cargo build --release --locked -p corral-cli
cargo build --release --locked -p corral-tray -p corral-dashboard
target="$(target_dir)/release"
# Into the same folder, so that what both are made of is built once.
CARGO_TARGET_DIR="$(target_dir)" cargo build --release --locked --manifest-path tests/minimal-tray/Cargo.toml
export CORRAL_TEST_BINARY="$target/corral"
"$target/bench" "$@"
