#!/usr/bin/env bash
# Prints the path of a Chromium, or a Chrome, that the dashboard's tests can drive: the one of CORRAL_TEST_CHROMIUM, one
# that is here, the system's package, or else Playwright's own, fetched by Playwright. One in a snap does not do: it sees
# no folder of the tests.
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

names=(chromium chromium-browser google-chrome-stable google-chrome)

# drives PROGRAM: it is no snap, and runs.
drives() {
  local file
  file="$(readlink -f "$1")" && [[ -x "$file" ]] || return 1
  case "$file" in
    /snap/* | */snap) return 1 ;;
  esac
  # Ubuntu's package is a script that starts the snap.
  if [[ "$(head -c 2 "$file" | tr -d '\0')" == '#!' ]] && grep -q /snap/ "$file"; then return 1; fi
  [[ "$(timeout 60 "$1" --version 2>/dev/null </dev/null)" == *Chrom* ]]
}

# Prints one that is in PATH.
installed() {
  local name path
  for name in "${names[@]}"; do
    path="$(command -v "$name")" || continue
    if drives "$path"; then
      printf '%s\n' "$path"
      return
    fi
  done
  return 1
}

# Whether the system's package is a Chromium: there may be none, or one that fetches a snap.
packaged() {
  local candidate
  have apt-get && have apt-cache || return 1
  candidate="$(LC_ALL=C apt-cache policy chromium | sed -n 's/^ *Candidate: *//p')"
  [[ -n "$candidate" && "$candidate" != '(none)' && "$candidate" != *snap* ]]
}

# Prints where Playwright keeps its own, there or not.
playwrights() {
  (cd "$REPO/ui" && node -p 'require("@playwright/test").chromium.executablePath()' 2>/dev/null)
}

# Brings Playwright's own, and what it needs of the system.
fetch_playwrights() {
  have npm && have npx || return 1
  cd "$REPO/ui"
  if [[ ! -e node_modules/@playwright/test ]]; then
    npm install --no-save --ignore-scripts --no-audit --no-fund --loglevel=error >&2 || return 1
  fi
  say "fetching Playwright's Chromium, once"
  npx --no-install playwright install chromium >&2 || return 1
  if ! drives "$(playwrights)" && have apt-get; then
    as_root "$(command -v npx)" --no-install playwright install-deps chromium >&2 || return 1
  fi
}

todo="install Chromium or Google Chrome, not as a snap, or name one with CORRAL_TEST_CHROMIUM"

if [[ -n "${CORRAL_TEST_CHROMIUM:-}" ]]; then
  drives "$CORRAL_TEST_CHROMIUM" || die "$CORRAL_TEST_CHROMIUM cannot be driven" \
    "CORRAL_TEST_CHROMIUM names it, and it is not there, does not run, or is a snap" "$todo"
  printf '%s\n' "$CORRAL_TEST_CHROMIUM"
  exit
fi
if installed; then exit; fi
if own="$(playwrights)" && drives "$own"; then
  printf '%s\n' "$own"
  exit
fi
if packaged; then
  apt_install chromium
  if installed; then exit; fi
fi
if (fetch_playwrights) && own="$(playwrights)" && drives "$own"; then
  printf '%s\n' "$own"
  exit
fi
die "there is no Chromium that the tests can drive" \
  "none of ${names[*]} is here and runs, the system has no package of it, and Playwright brought none" "$todo"
