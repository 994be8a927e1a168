# shellcheck shell=bash
# The real parts that tests and benchmarks run on; sourced, after lib.sh.

# Sets everything up and exports where it is. A Docker engine that was started for this ends with the script.
testbed_up() {
  "$SCRIPTS/setup.sh" build desktop run test
  "$SCRIPTS/ui.sh"
  if ! docker_engine >/dev/null; then
    trap '"$SCRIPTS/docker.sh" stop >/dev/null 2>&1' EXIT
    "$SCRIPTS/docker.sh" start
  fi
  "$SCRIPTS/llama-image.sh"
  export CORRAL_TEST_IMAGE=corral-test/llama-server:local
  export CORRAL_TEST_LLAMA_SERVER="$CORRAL_CACHE/llama-server"
  "$SCRIPTS/llama-binary.sh" "$CORRAL_TEST_LLAMA_SERVER"
  CORRAL_TEST_LLAMA_VULKAN="$("$SCRIPTS/llama-root.sh" --vulkan)/launch"
  CORRAL_TEST_CLAUDE="$("$SCRIPTS/claude-code.sh")"
  CORRAL_TEST_CHROMIUM="$("$SCRIPTS/chromium.sh")"
  export CORRAL_TEST_LLAMA_VULKAN CORRAL_TEST_CLAUDE CORRAL_TEST_CHROMIUM
}
