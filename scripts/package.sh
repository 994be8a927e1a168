#!/usr/bin/env bash
# Makes Corral's package for Debian, Ubuntu and their like with Tauri's bundler, and prints its path: [--debug]
# --debug packs the programs as tests build them, which is quick where those are built; they are large and slow.
# DEBFULLNAME and DEBEMAIL say who packs it, else the last commit does.
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

profile=release
bundler=()
compression=(-Zxz)
# As the benchmark builds them: what is measured is what is packed.
builds=("--release -p corral-cli" "--release -p corral-tray -p corral-dashboard")
case "${1:-}" in
  "") ;;
  --debug)
    profile=debug
    bundler=(--debug)
    compression=(-Zgzip -z1)
    builds=("--workspace --bins")
    ;;
  *) die "unknown argument '$1'" "package.sh takes --debug" "see the head of $0" ;;
esac

"$SCRIPTS/setup.sh" build desktop package
"$SCRIPTS/ui.sh"
cd "$REPO"
for programs in "${builds[@]}"; do
  read -ra programs <<<"$programs"
  cargo build --locked "${programs[@]}" >&2
done

if [[ ! -e packaging/node_modules/.package-lock.json ||
  packaging/package-lock.json -nt packaging/node_modules/.package-lock.json ]]; then
  say "fetching Tauri's bundler"
  npm install --prefix packaging --no-save --ignore-scripts --no-audit --no-fund --loglevel=error >&2 ||
    die "could not install Tauri's bundler" "npm said the above" "start again when that is mended"
  # Where there was nothing to do, npm leaves this as old as it was.
  touch packaging/node_modules/.package-lock.json
fi

built="$(target_dir)/$profile"
version="$(cargo metadata --no-deps --format-version 1 --locked |
  jq -r '.packages[] | select(.name == "corral-dashboard").version')"
packer="${DEBFULLNAME:-The Corral developers}"
packer+=" <${DEBEMAIL:-$(git log -1 --format=%ae 2>/dev/null || echo root@localhost)}>"
SOURCE_DATE_EPOCH="${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || date +%s)}"
export SOURCE_DATE_EPOCH
umask 022
# As a target folder of its own, since the bundler writes into the program that it packs.
stage="$(target_dir)/package"
rm -rf "$stage"
mkdir -p "$stage/$profile" "$stage/usr"

# put MODE FILE PLACE: into the package, below /usr.
put() {
  install -D -m "$1" "$2" "$stage/usr/$3"
}

# Without what only a debugger wants.
strip -o "$stage/$profile/corral-dashboard" "$built/corral-dashboard"
for program in corral claude-local corral-tray; do
  strip -o "$stage/$program" "$built/$program"
  put 755 "$stage/$program" "bin/$program"
done

put 644 packaging/corral.service lib/systemd/user/corral.service
put 644 icons/app/corral.svg share/icons/hicolor/scalable/apps/corral.svg
for picture in icons/app/*.png; do
  size="$(basename "$picture" .png)"
  put 644 "$picture" "share/icons/hicolor/${size}x$size/apps/corral.png"
done

sed -e "s/VERSION/$version/" -e "s/DATE/$(date -u -d "@$SOURCE_DATE_EPOCH" +%F)/" \
  packaging/org.corral.Corral.metainfo.xml >"$stage/metainfo.xml"
put 644 "$stage/metainfo.xml" share/metainfo/org.corral.Corral.metainfo.xml

while read -r shell place; do
  "$built/corral" completions "$shell" >"$stage/completions"
  put 644 "$stage/completions" "share/$place"
done <<'PLACES'
bash bash-completion/completions/corral
zsh zsh/vendor-completions/_corral
fish fish/vendor_completions.d/corral.fish
PLACES

mkdir "$stage/man"
"$built/corral" manual "$stage/man"
cp packaging/corral-tray.1 "$stage/man"
printf '.so man1/corral-claude.1\n' >"$stage/man/claude-local.1"
gzip -9n "$stage"/man/*
for page in "$stage"/man/*; do
  put 644 "$page" "share/man/man1/$(basename "$page")"
done

{
  cat packaging/copyright
  printf 'License: MIT\n'
  sed -n '/^Permission/,$p' LICENSE-MIT | sed -e 's/^$/./' -e 's/^/ /'
} >"$stage/copyright"
put 644 "$stage/copyright" share/doc/corral/copyright
"$SCRIPTS/licenses.sh" >"$stage/third-party.txt"
gzip -9n "$stage/third-party.txt"
put 644 "$stage/third-party.txt.gz" share/doc/corral/third-party.txt.gz
printf 'corral (%s) unstable; urgency=medium\n\n  * Packed from the sources at %s.\n\n -- %s  %s\n' \
  "$version" "$(git rev-parse --short HEAD 2>/dev/null || echo "an unknown commit")" "$packer" \
  "$(LC_ALL=C date -u -R -d "@$SOURCE_DATE_EPOCH")" >"$stage/changelog"

# The libraries that the programs ask for, in the versions of this system.
mkdir -p "$stage/shlibs/debian"
printf 'Source: corral\n\nPackage: corral\nArchitecture: any\n' >"$stage/shlibs/debian/control"
depends="$(cd "$stage/shlibs" &&
  dpkg-shlibdeps -O "$stage/$profile/corral-dashboard" "$stage"/usr/bin/* 2>"$stage/log" |
  sed -n 's/^shlibs:Depends=//p')" ||
  die "the libraries of the programs are not known" "$(cat "$stage/log")" "build Corral on this system, and start again"

jq --arg packer "$packer" --arg changelog "$stage/changelog" --arg usr "$stage/usr" '
  .bundle.publisher = $packer | .bundle.linux.deb += {changelog: $changelog, files: {"/usr": $usr}}
' packaging/bundle.json >"$stage/bundle.json"
say "packing"
CARGO_TARGET_DIR="$stage" CI=true packaging/node_modules/.bin/tauri bundle "${bundler[@]}" \
  --bundles deb --config "$stage/bundle.json" >"$stage/log" 2>&1 || {
  cat "$stage/log" >&2
  die "the package was not made" "Tauri's bundler said the above" "mend that and start again"
}

# What the bundler has no words for: libraries' versions, what is suggested, a program that people do not call.
bundle=("$stage/$profile"/bundle/deb/*.deb)
tree="$stage/tree"
dpkg-deb -R "${bundle[0]}" "$tree"
mkdir "$tree/usr/lib/corral"
mv "$tree/usr/bin/corral-dashboard" "$tree/usr/lib/corral/"
sed -i -e "s/^Depends:.*/Depends: bubblewrap, $depends/" -e '/^Recommends:/a Suggests: docker.io | docker-ce' \
  "$tree/DEBIAN/control"
(cd "$tree" && find usr -type f -print0 | LC_ALL=C sort -z | xargs -0 md5sum) >"$tree/DEBIAN/md5sums"
chmod -R u=rwX,go=rX "$tree"
deb="$(target_dir)/$profile/$(basename "${bundle[0]}")"
dpkg-deb --root-owner-group "${compression[@]}" -b "$tree" "$deb" >"$stage/log"
rm -rf "$stage"
say "made $deb"
printf '%s\n' "$deb"
