#!/usr/bin/env bash
# Prints the licences of what Corral's programs are built of, as these ask of who passes them on: each text once.
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

cd "$REPO"

# Name, version, licence and folder of each crate that is linked into the programs, and of what is in the dashboard.
parts() {
  local linked package
  linked="$(cargo tree --locked -p corral-cli -p corral-tray -p corral-dashboard --edges normal --prefix none \
    --format '{p}' | cut -d ' ' -f 1-2 | sort -u | jq -R . | jq -s .)"
  cargo metadata --format-version 1 --locked | jq -r --argjson linked "$linked" '
    .packages[] | select(.source and ("\(.name) v\(.version)" | IN($linked[])))
    | [.name, .version, .license // "its own", (.manifest_path | rtrimstr("/Cargo.toml"))] | @tsv'
  for package in $(jq -r '.dependencies | keys[]' ui/package.json); do
    jq -r --arg folder "ui/node_modules/$package" '[.name, .version, .license, $folder] | @tsv' \
      "ui/node_modules/$package/package.json"
  done
}

list="$(parts)"
printf "Corral's programs are built of these parts of others:\n\n"
awk -F '\t' '{ print "  " $1 " " $2 ": " $3 }' <<<"$list"
while IFS=$'\t' read -r name version _ folder; do
  find "$folder" -maxdepth 1 -type f \( -iname 'licen[cs]e*' -o -iname 'copying*' -o -iname 'notice*' \) \
    -exec sha256sum {} + | sed "s|^\([^ ]*\)  |\1\t$name $version\t|"
done <<<"$list" | LC_ALL=C sort -s -k 1,1 | awk -F '\t' '
  function show(  line) {
    print "\n" names "\n"
    while ((getline line <file) > 0) print line
    close(file)
  }
  $1 != last { if (last) show(); last = $1; names = "Of:"; file = $3 }
  { names = names "\n  " $2 }
  END { show() }'
