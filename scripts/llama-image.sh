#!/usr/bin/env bash
# Makes the image corral-test/llama-server:local from the folder of scripts/llama-root.sh, where missing or outdated.
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

image=corral-test/llama-server:local
label=corral-test.root

docker_engine >/dev/null || die "no Docker engine answers" "the image is made by it" "scripts/docker.sh start"
root="$("$SCRIPTS/llama-root.sh")"
identity="$(sha256sum <"$root/identity" | cut -d' ' -f1)"

old="$(docker image inspect --format "{{.Id}} {{index .Config.Labels \"$label\"}}" "$image" 2>/dev/null || true)"
if [[ "${old#* }" == "$identity" ]]; then
  say "image $image is current"
  exit
fi

say "making image $image"
tar -C "$root" --owner=0 --group=0 --numeric-owner --exclude=./launch --exclude=./identity -c . |
  docker import -c 'ENTRYPOINT ["/usr/bin/llama-server"]' -c "LABEL $label=$identity" - "$image" >/dev/null
# The one it replaces may still be in use: then it stays, nameless, until its containers go.
[[ -z "$old" ]] || docker image rm "${old%% *}" >/dev/null 2>&1 || true
