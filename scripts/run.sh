#!/usr/bin/env bash
# Builds and runs Corral, with the user's catalog or an embedded default that needs no Docker, GPU or download:
#   scripts/run.sh [--once] [--gateway ADDRESS:PORT] [--management ADDRESS:PORT]
# A catalog that is the unedited example counts as none: its models are nobody's yet.
# --once ends after the model has answered; the addresses are for the embedded default, at its first run.
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

once=
gateway=127.0.0.1:8080
management=127.0.0.1:8081
while (($#)); do
  case "$1" in
    --once) once=1 ;;
    --gateway)
      shift
      gateway="${1:-}"
      ;;
    --management)
      shift
      management="${1:-}"
      ;;
    *) die "unknown argument '$1'" "run.sh takes --once, --gateway and --management" "see the head of $0" ;;
  esac
  shift
done

made_here='# Written by scripts/run.sh.'
serve=

# Ends corral serve, and waits until it has ended.
end_serve() {
  if [[ -n "$serve" ]]; then
    kill -TERM "$serve" 2>/dev/null || true
    wait "$serve" 2>/dev/null || true
  fi
}

# Answers once corral serve does, or the tray in its place where there is a display.
start_serve() {
  local deadline=$((SECONDS + 30))
  # In a session of its own, ^C reaches it once, from here.
  if [[ -n "$desktop" ]]; then
    setsid "$target/corral-tray" &
  else
    setsid "$corral" serve &
  fi
  serve=$!
  trap end_serve EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM
  until "$corral" status >/dev/null 2>&1; do
    kill -0 "$serve" 2>/dev/null || die "corral serve ended" "it said the above" "mend that and start again"
    ((SECONDS < deadline)) || die "corral serve does not answer" "30 seconds have gone" "read its output above"
    sleep 0.1
  done
}

# The catalog, the models and the llama-server of the embedded default, each where it is missing.
embed() {
  local home="$1" model
  mkdir -p "$home/config" "$home/data/models"
  "$SCRIPTS/llama-binary.sh" "$CORRAL_CACHE/llama-server"
  for model in tiny:1 tiny-2:2; do
    local file="$home/data/models/${model%:*}.gguf"
    if [[ ! -e "$file" ]]; then
      "$target/tiny-gguf" "$file.part" --seed "${model#*:}" >/dev/null
      mv "$file.part" "$file"
    fi
  done
  [[ -e "$home/config/models.toml" ]] || cat >"$home/config/models.toml" <<TOML
$made_here
# Two models with random weights, each half a megabyte: they answer at once, and nonsense.
schema = 1

[server]
gateway    = "$gateway"
management = "$management"

[engine]
runtime    = "process"
binary     = $(jq -n --arg path "$CORRAL_CACHE/llama-server" '$path')
models_dir = $(jq -n --arg path "$home/data/models" '$path')

[defaults]
ctx = 65536

[models.tiny]
name = "Tiny"
file = "tiny.gguf"

[models.tiny-2]
name = "Tiny, the other one"
file = "tiny-2.gguf"
TOML
}

# Asks a model that is not loaded one question: the gateway loads it. Prints where everything is.
prove() {
  local gateway answer
  gateway="$("$corral" status --json | jq -r '.gateway // empty')"
  [[ -n "$gateway" ]] || die "there is no gateway" "corral status names none" "read its output above"
  # Noise may hold anything, so it is shown quoted.
  answer="$(curl -sS --fail-with-body --max-time 60 -H 'Content-Type: application/json' \
    -d '{"model":"tiny","messages":[{"role":"user","content":"Who are you?"}],"max_tokens":16}' \
    "$gateway/v1/chat/completions")" || die "the model does not answer" "$answer" "read 'corral logs'"
  answer="$(jq -ac '.choices[0].message.content' <<<"$answer")"
  printf '\nThe model tiny answers: %s\n' "$answer"
  # What ends at once cannot be asked.
  [[ -z "$once" ]] || return 0
  cat <<TEXT

  models      $gateway  (OpenAI's and Anthropic's protocols)
  management  http://$management  (token in $CORRAL_HOME/run/token)
  catalog     $CORRAL_HOME/config/models.toml
  dashboard   CORRAL_HOME='$CORRAL_HOME' $corral dashboard

  ask     curl -sS $gateway/v1/chat/completions \\
            -d '{"model":"tiny","messages":[{"role":"user","content":"hello"}]}'
  switch  ask for "model":"tiny-2", or  CORRAL_HOME='$CORRAL_HOME' $corral switch tiny-2
  usage   CORRAL_HOME='$CORRAL_HOME' $corral usage
  stop    ^C here
TEXT
}

desktop=
programs=(-p corral-cli)
if [[ -n "${DISPLAY:-}${WAYLAND_DISPLAY:-}" ]]; then
  desktop=1
  programs+=(-p corral-tray -p corral-dashboard)
fi
"$SCRIPTS/setup.sh" build run ${desktop:+desktop}
"$SCRIPTS/ui.sh"
cd "$REPO"
target="$(target_dir)/release"
corral="$target/corral"

catalog="${CORRAL_HOME:+$CORRAL_HOME/config/models.toml}"
catalog="${catalog:-${XDG_CONFIG_HOME:-$HOME/.config}/corral/models.toml}"
embedded=1
if cmp -s "$catalog" models.toml; then
  say "$catalog is the example, not edited yet: running with the embedded default"
  # A home that was asked for holds everything, but its catalog is left as it is.
  CORRAL_HOME="${CORRAL_HOME:+$CORRAL_HOME/embedded}"
elif [[ -e "$catalog" && "$(head -n 1 "$catalog")" != "$made_here" ]]; then
  embedded=
fi
if [[ -z "$embedded" ]]; then
  cargo build --release --locked "${programs[@]}"
else
  export CORRAL_HOME="${CORRAL_HOME:-${XDG_DATA_HOME:-$HOME/.local/share}/corral-embedded}"
  catalog="$CORRAL_HOME/config/models.toml"
  cargo build --release --locked "${programs[@]}" -p corral-testkit
  embed "$CORRAL_HOME"
  management="$(sed -n 's/^management *= *"\(.*\)".*/\1/p' "$catalog")"
  # Port 0 takes any that is free.
  if [[ "$management" != *:0 ]] && health="$(curl -s --max-time 2 "http://$management/healthz")"; then
    jq -e '.status == "ok" and .version' >/dev/null 2>&1 <<<"$health" ||
      die "$management is in use" "another program answers there" "change management in $catalog"
    die "Corral serves at $management already" "this would be the second one" "use that one, or stop it and start again"
  fi
fi

if "$corral" status >/dev/null 2>&1; then
  die "Corral runs with $catalog already" "this would be the second one" "use that one, or stop it and start again"
fi
say "running with $catalog"
start_serve
if [[ -n "$embedded" ]]; then
  management="$(jq -r .management "$CORRAL_HOME/run/daemon.json")"
  prove
fi
if [[ -n "$once" ]]; then
  [[ -z "$embedded" ]] || "$corral" stop
  exit
fi
if [[ -z "$desktop" ]]; then
  printf '\nThe dashboard, for this machine and whoever knows the address:\n  %s\n' "$("$corral" dashboard --print)"
fi
wait "$serve"
