#!/usr/bin/env bash
# What a user would write to switch models by hand: remove the old container, run the new one, poll its health every
# 10 ms, ask for one token.
#   switch-by-hand.sh IMAGE MODELS_DIR FILE PORT
set -euo pipefail
image="$1" models="$2" file="$3" port="$4"

docker rm -f corral-bench-by-hand >/dev/null 2>&1 || true
docker run -d --name corral-bench-by-hand -p "127.0.0.1:$port:8080" -v "$models:/models:ro" "$image" \
  --host 0.0.0.0 --port 8080 -m "/models/$file" -c 4096 -np 1 >/dev/null
until curl -sf -o /dev/null "http://127.0.0.1:$port/health"; do sleep 0.01; done
grep -q -m1 '^data: .*choices' < <(
  curl -sfN "http://127.0.0.1:$port/v1/chat/completions" -H 'Content-Type: application/json' \
    -d '{"stream":true,"max_tokens":1,"messages":[{"role":"user","content":"hello"}]}'
)
