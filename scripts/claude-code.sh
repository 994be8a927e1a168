#!/usr/bin/env bash
# Fetches the Claude Code that the tests run, once, checks its bytes, and prints the program's path.
#
# Only the package with the program for this machine is fetched, and unpacked: nothing of it is run or installed.
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

version=2.1.329

case "$(uname -sm)" in
  "Linux x86_64")
    package=@anthropic-ai/claude-code-linux-x64
    sha512=fa7e25bb5b9b600a74d98d17fcc0149f1c3dc98e921c767bec5f88a16f95d305
    sha512+=6816e888f68a5d1fa8287e37f5e205c908460c4cda64b3b1a7d62f1765328058
    ;;
  "Linux aarch64")
    package=@anthropic-ai/claude-code-linux-arm64
    sha512=2221b9ba6153a120955aa075944b31c312312a0c4f5f26770d153dd79bfc2780
    sha512+=73e50dc9a6c94cd1ec359b9c9a4fe9455c13ef6319ac1208b45c8ebc5c7343d0
    ;;
  *) die "no Claude Code for this machine" "it is $(uname -sm)" "add it to $0" ;;
esac

folder="$CORRAL_CACHE/tools/claude-code-$version"
mkdir -p "$CORRAL_CACHE/tools"
# One at a time.
exec {lock}<"$CORRAL_CACHE/tools"
flock "$lock"

# The folder gets its name when all is in it.
if [[ ! -x "$folder/claude" ]]; then
  have npm || die "cannot fetch Claude Code" "its package comes through npm, which is not here" "scripts/setup.sh test"
  say "fetching Claude Code $version"
  new="$(mktemp -d "$folder.XXXXXX")"
  trap 'rm -rf "$new"' EXIT
  (cd "$new" && npm pack --loglevel=error "$package@$version" >/dev/null) ||
    die "could not fetch $package $version" "npm said the above" "start again when that is mended"
  mv "$new"/*.tgz "$new/package.tgz"
  sha512sum --quiet -c >&2 <<<"$sha512  $new/package.tgz" ||
    die "$package $version is not what it was" "its bytes have changed" "find out why before you run it"
  tar -xzf "$new/package.tgz" --no-same-owner --strip-components=1 -C "$new" package/claude
  rm "$new/package.tgz"
  chmod 755 "$new" "$new/claude"
  rm -rf "$folder"
  mv "$new" "$folder"
  trap - EXIT
fi
printf '%s\n' "$folder/claude"
