#!/usr/bin/env bash
# Renders the icons from icons/mark.svg; the pictures are committed, so that only who changes the mark needs this.
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

have rsvg-convert || die "there is no rsvg-convert" "the pictures are rendered with it" \
  "install the package librsvg2-bin"
cd "$REPO/icons"
# Each differs by 3:1 at least from a light panel (#f0f0f0) and from a dark one (#303030): nothing here is seen through.
grey='#80858d' green='#299455' amber='#b8700a' red='#e2463f'

# picture NAME FENCE INSIDE: the tray's sizes of one state.
picture() {
  local size
  for size in 16 22 24 32 48 64; do
    sed -e "s|FENCE|$2|" -e "s|INSIDE|$3|" mark.svg | rsvg-convert -w "$size" -h "$size" -o "tray/$1-$size.png"
  done
}

picture stopped "$grey" ""
picture ready "$green" "<circle cx='16' cy='16.8' r='5.4' fill='$green'/>"
picture failed "$red" "<path d='M12.2 13l7.6 7.6M19.8 13l-7.6 7.6' stroke='$red' stroke-width='3.4'/>"
for frame in {0..7}; do
  picture "busy-$frame" "$grey" "<g transform='rotate($((frame * 45)) 16 16.6)'><circle cx='16' cy='12.1' r='3.1' fill='$amber'/><circle cx='16' cy='21.1' r='1.7' fill='$amber'/></g>"
done

# The program's own icon: the mark of a ready model on a tile.
tile="<rect width='32' height='32' rx='7' fill='#1d2126'/><g transform='translate(4.5 4.2) scale(.72)'>"
inside="<circle cx='16' cy='16.8' r='5.4' fill='#4cc27f'/></g>"
sed -e "s|<g class=\"fence\">|$tile<g>|" -e "s|FENCE|#e8eaed|" -e "s|INSIDE|$inside|" -e '/<!--/d' mark.svg >app/corral.svg
for size in 16 24 32 48 64 128 256 512; do
  rsvg-convert -w "$size" -h "$size" -o "app/$size.png" app/corral.svg
done
say "rendered $(find tray app -name '*.png' | wc -l) pictures"
