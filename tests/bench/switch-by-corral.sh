#!/usr/bin/env bash
# The same through Corral: POST /switch with `wait`, then one token from the new model.
#   switch-by-corral.sh MANAGEMENT TOKEN_FILE MODEL
set -euo pipefail
management="$1" token="$2" model="$3"

bearer() { printf 'Authorization: Bearer %s\n' "$(<"$1")"; }
answer="$(bearer "$token" | curl -sf -H @- "http://$management/switch" -d "{\"model\":\"$model\",\"wait\":true}")"
[[ "$answer" =~ \"url\":\"([^\"]*)\" ]]
url="${BASH_REMATCH[1]}"
grep -q -m1 '^data: .*choices' < <(
  bearer "${token%/*}/api-key" | curl -sfN -H @- "$url/v1/chat/completions" -H 'Content-Type: application/json' \
    -d '{"stream":true,"max_tokens":1,"messages":[{"role":"user","content":"hello"}]}'
)
