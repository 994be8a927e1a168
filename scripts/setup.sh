#!/usr/bin/env bash
# Installs what is missing for: build (the default), desktop, run, package, screenshots, test, bench; one or several.
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

litellm=1.106.0
srt=0.0.83

packages=()
hops=no
browser=no

# need PACKAGE COMMAND...: PACKAGE, unless COMMAND works.
need() {
  local package="$1"
  shift
  "$@" >/dev/null 2>&1 || [[ " ${packages[*]} " == *" $package "* ]] || packages+=("$package")
}

c_headers() {
  printf '#include <stdio.h>\n' | cc -E - >/dev/null
}

# library NAME: the loader finds it.
library() {
  [[ "$(ldconfig -p)" == *"$1 "* ]]
}

ca_bundle() {
  [[ -s /etc/ssl/certs/ca-certificates.crt || -s /etc/pki/tls/certs/ca-bundle.crt || -s /etc/ssl/cert.pem ]]
}

# Its package is unpacked and not installed: that would start nginx as a service.
nginx_there() {
  local nginx="$CORRAL_CACHE/tools/nginx" package
  if have nginx || [[ -x "$nginx/usr/sbin/nginx" ]]; then return; fi
  have apt-get || die "missing on this machine: nginx" \
    "only apt-get is known here, and this machine has none" "install nginx by hand and start again"
  say "unpacking nginx"
  rm -rf "$nginx" "$nginx.new"
  mkdir -p "$nginx.new"
  (as_root apt-get -q -o DPkg::Lock::Timeout=120 update >/dev/null) ||
    say "the package lists could not all be refreshed; trying with those at hand"
  # Which package has the program differs with the release.
  for package in nginx nginx-core nginx-light; do
    (cd "$nginx.new" && apt-get -q -o APT::Sandbox::User=root download "$package" >&2) || continue
    dpkg-deb -x "$nginx.new/$package"_*.deb "$nginx.new"
    if [[ -x "$nginx.new/usr/sbin/nginx" ]]; then break; fi
  done
  "$nginx.new/usr/sbin/nginx" -v || die "nginx cannot be run" "the above was said, and it may lack a library" \
    "install nginx by hand and start again"
  mv "$nginx.new" "$nginx"
}

# In a folder of Python's own kind, which says its version when it is complete.
litellm_there() {
  local folder="$CORRAL_CACHE/tools/litellm"
  if [[ "$(cat "$folder/corral-version" 2>/dev/null)" == "$litellm" ]]; then return; fi
  say "installing LiteLLM $litellm, once, in some minutes"
  rm -rf "$folder"
  mkdir -p "$CORRAL_CACHE/tools"
  python3 -m venv "$folder"
  "$folder/bin/python" -m pip install --quiet --disable-pip-version-check "litellm[proxy]==$litellm" ||
    die "could not install LiteLLM $litellm" "pip said the above" "start again when that is mended"
  printf '%s\n' "$litellm" >"$folder/corral-version"
}

# Nothing of it is run by npm. It is only compared with, so that what does not run here is said and left out.
srt_there() {
  local folder="$CORRAL_CACHE/tools/srt"
  if [[ "$(cat "$folder/corral-version" 2>/dev/null)" == "$srt" ]]; then return; fi
  say "installing sandbox-runtime $srt"
  rm -rf "$folder"
  mkdir -p "$folder"
  npm install --prefix "$folder" --ignore-scripts --no-audit --no-fund --omit=dev --loglevel=error \
    "@anthropic-ai/sandbox-runtime@$srt" >&2 || die "could not install sandbox-runtime $srt" "npm said the above" \
    "start again when that is mended"
  if ! "$folder/node_modules/.bin/srt" true >&2 </dev/null; then
    say "sandbox-runtime $srt does not run here, with node $(node --version): the benchmark goes without it"
    return
  fi
  printf '%s\n' "$srt" >"$folder/corral-version"
}

for set in "${@:-build}"; do
  case "$set" in
    build) # the bundled SQLite is C
      have cargo || die "there is no cargo" "Corral is written in Rust" \
        "install Rust with rustup (https://rustup.rs); the version it takes is rust-version in Cargo.toml"
      need gcc have cc
      need libc6-dev c_headers
      need ca-certificates ca_bundle
      ;;
    desktop) # the window's toolkit and web view, and what shows them are there
      need pkg-config have pkg-config
      need libwebkit2gtk-4.1-dev pkg-config --exists webkit2gtk-4.1
      ;;
    run)
      need curl have curl
      need jq have jq
      need bubblewrap have bwrap
      ;;
    package) # what looks at the programs' libraries, and what Tauri's bundler comes by
      need dpkg-dev have dpkg-shlibdeps
      need binutils have strip
      need jq have jq
      need npm have npm
      need git have git
      ;;
    screenshots) # a desktop to take pictures of, and what takes them
      need xvfb have Xvfb
      need dbus-daemon have dbus-daemon
      need openbox have openbox
      need lxqt-panel have lxqt-panel
      need xterm have xterm
      need fonts-dejavu-core test -e /usr/share/fonts/truetype/dejavu/DejaVuSansMono.ttf
      need xdotool have xdotool
      need x11-xserver-utils have xsetroot
      need imagemagick have import
      need pngquant have pngquant
      need optipng have optipng
      ;;
    test)
      need curl have curl
      need jq have jq
      # The jail, what it is tried with, and what tries to get out of it.
      need bubblewrap have bwrap
      need git have git
      need tmux have tmux
      need xterm have xterm
      need xvfb have Xvfb
      need x11-utils have xwininfo
      # The tray and its window.
      need dbus-daemon have dbus-daemon
      need openbox have openbox
      need webkit2gtk-driver have WebKitWebDriver
      need python3 have python3
      need systemd test -x /lib/systemd/systemd
      need npm have npm
      # What says whether the package is as it should be.
      need lintian have lintian
      need desktop-file-utils have desktop-file-validate
      need appstream have appstreamcli
      browser=yes
      if ! docker_engine >/dev/null; then # another engine's packages would clash with these
        need docker.io have dockerd
        need docker.io have docker
        need iptables have iptables
      fi
      ;;
    bench) # what Corral is compared with: nginx, LiteLLM in Python's own kind of folder, sandbox-runtime in npm's, and
      # what Tauri's own tray loads
      need libayatana-appindicator3-1 library libayatana-appindicator3.so.1
      need npm have npm
      need ripgrep have rg
      need socat have socat
      need python3 have python3
      need python3-venv python3 -c 'import ensurepip, venv'
      hops=yes
      ;;
    *)
      die "there is no set '$set'" "the sets are build, desktop, run, package, screenshots, test and bench" \
        "name one or several of them"
      ;;
  esac
done

if ((${#packages[@]})); then
  have apt-get || die "missing on this machine, in Debian's names: ${packages[*]}" \
    "only apt-get is known here, and this machine has none" "install those by hand and start again"
  apt_install "${packages[@]}"
  # Newer Debians have the client in a package of its own.
  if [[ " ${packages[*]} " == *" docker.io "* ]] && ! have docker; then
    apt_install docker-cli
  fi
fi
if [[ "$browser" == yes ]]; then
  "$SCRIPTS/chromium.sh" >/dev/null
fi
if [[ "$hops" == yes ]]; then
  nginx_there
  litellm_there
  srt_there
fi
say "all there for: ${*:-build}"
