#!/usr/bin/env bash
# Makes the pictures of README.md and the docs into docs/images, or into a folder: [DIR]
#
# What is in them is real: the tray on a panel, the dashboard in its own window and the command in a terminal, on an X
# server without a screen, with a real llama-server that answers requests. Its models are tiny and have random weights.
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# shellcheck source=scripts/node.sh
source "$SCRIPTS/node.sh"

out="$(realpath -m "${1:-$REPO/docs/images}")"
"$SCRIPTS/setup.sh" build desktop run screenshots
"$SCRIPTS/ui.sh"
use_node
cd "$REPO"
bin="${CORRAL_BIN:-}"
if [[ -z "$bin" ]]; then
  cargo build --release --locked -p corral-cli -p corral-tray -p corral-dashboard -p corral-testkit >&2
  bin="$(target_dir)/release"
fi
llama="$CORRAL_CACHE/llama-server"
"$SCRIPTS/llama-binary.sh" "$llama"

work="$(mktemp -d /tmp/desk.XXXX)"
started=()
# The newest first: nothing is left without what it stands on.
clean() {
  local at
  for ((at = ${#started[@]} - 1; at >= 0; at--)); do
    kill "${started[at]}" 2>/dev/null || true
    wait "${started[at]}" 2>/dev/null || true
  done
  rm -rf "$work"
}
trap clean EXIT

# start PROGRAM...: in the background, until the end.
start() {
  "$@" >>"$work/log" 2>&1 &
  started+=($!)
}

# wait_for WHAT COMMAND...: until the command works, for two minutes.
wait_for() {
  local what="$1" deadline=$((SECONDS + 120))
  shift
  until "$@" >/dev/null 2>&1; do
    ((SECONDS < deadline)) || die "no picture: $what" "two minutes have gone: $(tail -n 5 "$work/log")" "look at $0"
    sleep 0.2
  done
}

home="$work"
mkdir -p "$home/corral/config" "$home/corral/data/models" "$home/corral/run" "$home/.config/lxqt" "$out"
export HOME="$home" CORRAL_HOME="$home/corral" XDG_RUNTIME_DIR="$work/run" XDG_CONFIG_HOME="$home/.config" LANG=C.UTF-8
export NO_AT_BRIDGE=1 GDK_BACKEND=x11 XDG_CURRENT_DESKTOP=LXQt QT_QPA_PLATFORM=xcb PATH="$bin:$PATH"
unset WAYLAND_DISPLAY XDG_CACHE_HOME XDG_DATA_HOME
mkdir -m 700 "$XDG_RUNTIME_DIR"
for model in tiny:1 tiny-2:2 tiny-3:3; do
  tiny-gguf "$CORRAL_HOME/data/models/${model%:*}.gguf" --seed "${model#*:}" >/dev/null
done
cat >"$CORRAL_HOME/config/models.toml" <<TOML
schema = 1

[server]
gateway    = "127.0.0.1:0"
management = "127.0.0.1:0"

[engine]
runtime    = "process"
binary     = "$llama"
models_dir = "$CORRAL_HOME/data/models"

[defaults]
ctx = 65536

[models.tiny]
name = "Tiny"
file = "tiny.gguf"
description = "Random weights: answers at once, and nonsense"

[models.tiny-2]
name = "Tiny, the other one"
file = "tiny-2.gguf"
description = "As quick, and other nonsense"

[models.tiny-3]
name = "Tiny, for long texts"
file = "tiny-3.gguf"
ctx = 131072
description = "Twice the context"
TOML

start Xvfb -displayfd 3 -screen 0 1440x960x24 -nolisten tcp 3>"$work/display"
wait_for "Xvfb does not start" grep -q . "$work/display"
DISPLAY=":$(cat "$work/display")"
export DISPLAY DBUS_SESSION_BUS_ADDRESS="unix:path=$work/bus"
start dbus-daemon --session --nofork --nopidfile --address="$DBUS_SESSION_BUS_ADDRESS"
wait_for "no D-Bus" test -S "$work/bus"
start openbox
cat >"$work/panel.conf" <<'CONF'
[General]
__userfile__=true

[panel1]
alignment=-1
desktop=0
iconSize=24
panelSize=34
plugins=spacer, statusnotifier, worldclock
position=Top
width=100
width-percent=true

[spacer]
type=spacer
expandable=true
alignment=Left

[statusnotifier]
type=statusnotifier
alignment=Right

[worldclock]
type=worldclock
alignment=Right
CONF
start lxqt-panel -c "$work/panel.conf"
# A tray that finds no panel opens its window and says so.
panel() {
  dbus-send --session --print-reply --dest=org.freedesktop.DBus /org/freedesktop/DBus \
    org.freedesktop.DBus.NameHasOwner string:org.kde.StatusNotifierWatcher | grep -q true
}
wait_for "no panel" panel
start corral-tray --hidden
wait_for "corral-tray does not serve" corral status

# ask MODEL WORDS TOKENS: one request through the gateway.
ask() {
  local gateway
  gateway="$(corral status --json | jq -r .gateway)"
  jq -n --arg model "$1" --arg words "$2" --argjson tokens "$3" \
    '{model: $model, max_tokens: $tokens, messages: [{role: "user", content: $words}]}' |
    curl -sS --fail-with-body --max-time 60 -H 'Content-Type: application/json' -d @- "$gateway/v1/chat/completions" \
      >>"$work/answers"
}

say "asking the models"
for model in tiny-2 tiny-3 tiny; do
  for words in "Who are you?" "Write a haiku on fences" "And another one, on gates"; do
    ask "$model" "$words" 160
  done
done

# picture NAME WHAT...: what `import` is told to take, with few colours and no more.
picture() {
  local name="$1"
  shift
  import "$@" "$work/$name.png" 2>>"$work/log"
  pngquant --force --speed 1 --quality 80-100 --output "$out/$name.png" "$work/$name.png" ||
    cp "$work/$name.png" "$out/$name.png"
  optipng -quiet -o3 "$out/$name.png"
  say "$(du -h --apparent-size "$out/$name.png" | cut -f 1) $out/$name.png"
}

# What works in two folders, each in a jail, as agents do: question after question.
for folder in fences gates; do
  mkdir -p "$home/src/$folder"
  # A number in front, so that the prompt is not in the cache.
  start corral jail --workspace "$home/src/$folder" -- sh -c 'number=0; while number=$((number + 1)); do
    printf %s "$1" | sed "s/NUMBER/$number/" |
      curl -sS -o /dev/null -H "Content-Type: application/json" -d @- "$OPENAI_BASE_URL/chat/completions" || exit
  done' jail "$(jq -nc --arg words "NUMBER: tell me all of $folder. $(seq -s ', ' 400)" \
    '{model: "tiny", max_tokens: 250, ignore_eos: true, stream: true, messages: [{role: "user", content: $words}]}')"
done
working() {
  corral status --json | jq -e '.sessions | length == 2'
}
wait_for "no jail works" working

# Finds the dashboard's window, once it has been drawn: a blank one has hardly a colour.
shown() {
  id="$(xdotool search --onlyvisible --class corral-dashboard | tail -n 1)"
  [[ -n "$id" ]] && (($(import -window "$id" png:- | identify -format %k -) > 200))
}

for theme in light dark; do
  for page in live models usage; do
    GTK_THEME="Adwaita$([[ "$theme" == light ]] || echo :dark)" corral-dashboard --page "$page" >>"$work/log" 2>&1 &
    dashboard=$!
    started+=("$dashboard")
    wait_for "there is no window, or an empty one" shown
    # A curve takes some seconds to be one.
    [[ "$page" != live ]] || sleep 30
    picture "$page-$theme" -window "$id"
    kill "$dashboard"
    wait "$dashboard" 2>/dev/null || true
  done
done

# The icon is beside the clock, at the panel's end.
xsetroot -solid '#5b6b7a'
icon="$(import -window root -crop 400x34+1040+0 +repage png:- |
  convert - -fuzz 10% -fill black +opaque '#2c9f5c' -trim -format '%X %w' info:-)"
read -r left width <<<"$icon"
at=$((1040 + left + width / 2))
xdotool mousemove "$at" 17 click 3
menus() {
  (($(xdotool search --onlyvisible --class lxqt-panel | wc -l) > $1))
}
wait_for "no menu" menus 1
xdotool key Down Right
wait_for "no list of models" menus 2
picture tray -window root -crop 560x306+880+0 +repage
xdotool key Escape key Escape

cat >"$work/show" <<'SH'
for line in "corral list" "corral status" "corral switch tiny-3 --dry-run" "corral usage"; do
  printf '\033[1;32m$\033[0m %s\n' "$line"
  $line
  echo
done
exec sleep 60
SH
start xterm -T corral -fa "DejaVu Sans Mono" -fs 11 -bg '#14161a' -fg '#e8eaed' -geometry 77x33 -b 12 +sb \
  -xrm 'XTerm*cursorColor: #14161a' -e bash "$work/show"
terminal() {
  id="$(xdotool search --onlyvisible --class xterm | tail -n 1)"
  [[ -n "$id" ]] && pgrep -f "^sleep 60$" -P "$(xdotool getwindowpid "$id")"
}
wait_for "no terminal" terminal
picture command -window "$id"
