# shellcheck shell=bash
# Puts a Node.js that the dashboard's tools run on first in PATH; sourced behind lib.sh. The system's, where that is new
# enough; else one that npm brings, for what stable distributions carry is often older.

NODE_FETCHED=24.21.0
NPM_FETCHED=11.21.2

# As the tools' own package.json have it.
node_fits() {
  node -e 'const [major, minor] = process.versions.node.split(".").map(Number)
    process.exit((major === 20 && minor >= 19) || (major === 22 && minor >= 12) || major >= 24 ? 0 : 1)' 2>/dev/null
}

# Fails where there is no npm.
use_node() {
  local arch folder="$CORRAL_CACHE/tools/node-$NODE_FETCHED"
  have npm || return 1
  node_fits && return 0
  case "$(uname -m)" in
    x86_64) arch=x64 ;;
    aarch64) arch=arm64 ;;
    *) die "node $(node --version) is too old for what the dashboard is built with" \
      "none is known for $(uname -m)" "install Node.js 20.19 or later, and start again" ;;
  esac
  if [[ ! -e "$folder/complete" ]]; then
    say "node $(node --version) is too old for what the dashboard is built with: fetching $NODE_FETCHED"
    npm install --prefix "$folder" --ignore-scripts --no-audit --no-fund --loglevel=error \
      "node-linux-$arch@$NODE_FETCHED" "npm@$NPM_FETCHED" >&2 ||
      die "could not install node $NODE_FETCHED" "npm said the above" \
        "install Node.js 20.19 or later, or start again when that is mended"
    touch "$folder/complete"
  fi
  PATH="$folder/node_modules/node-linux-$arch/bin:$folder/node_modules/.bin:$PATH"
}
