#!/usr/bin/env bash
# Makes a folder with a real llama-server and all it needs, and prints its path: [--refresh] [--vulkan] [DIR].
#
# With --vulkan it is another folder, whose llama-server has the Vulkan backend and Mesa's device in software, which is
# this machine's processor: a GPU for those who have none. It takes 88 MB to fetch.
#
# Debian's packages are downloaded, checked by apt against Debian's keyring and unpacked, without root rights and
# without touching what is installed. DIR/launch runs llama-server with the folder's own libraries, as an ordinary
# process, where the system's C library is too old for it; scripts/llama-image.sh turns the folder into an image.
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# Count up when what is made below changes.
recipe=1
keyring=/usr/share/keyrings/debian-archive-keyring.gpg

refresh='' vulkan=''
while [[ "${1:-}" == --* ]]; do
  case "$1" in
    --refresh) refresh=1 ;;
    --vulkan) vulkan=1 ;;
    *) die "what is $1?" "it is no option of this script" "scripts/llama-root.sh [--refresh] [--vulkan] [DIR]" ;;
  esac
  shift
done
packages=(llama.cpp-tools)
root="$CORRAL_CACHE/llama-root"
if [[ -n "$vulkan" ]]; then
  packages+=(libggml0-backend-vulkan mesa-vulkan-drivers libvulkan1)
  root="$CORRAL_CACHE/llama-vulkan-root"
fi
root="${1:-$root}"

root="$(realpath -ms "$root")"
mkdir -p "$(dirname "$root")"
# One at a time.
exec {lock}<"$(dirname "$root")"
flock "$lock"

if [[ -z "$refresh" && "$(head -n 1 "$root/identity" 2>/dev/null)" == "recipe $recipe" ]]; then
  printf '%s\n' "$root"
  exit
fi

have apt-get || die "cannot fetch llama-server" "its packages come through apt-get, which is not here" \
  "install llama.cpp so that llama-server is on PATH, or set engine.binary in models.toml"
[[ ! -e "$root" || -e "$root/identity" ]] ||
  die "$root is in the way" "it was not made by this script" "move it away, or name another folder"

# The mirror this machine takes Debian from. Who publishes a source is known only once its lists were fetched; without
# them the first source of this release that is not the security updates' is it.
debian_mirror() {
  # shellcheck disable=SC2016 # apt-get fills these in
  local targets=(apt-get indextargets --format '$(COMPONENT) $(RELEASE) $(REPO_URI) $(LABEL)' 'Created-By: Packages')
  { "${targets[@]}" && "${targets[@]}" --no-release-info; } |
    awk -v release="$1" '
      $1 != "main" || $3 ~ /^cdrom:/ { next }
      $4 == "Debian" && NF == 4 && known == "" { known = $3 }
      $2 == release && $3 !~ /security/ && guess == "" { guess = $3 }
      END { print known == "" ? guess : known }'
}

ID='' VERSION_CODENAME=''
# shellcheck source=/dev/null
source /etc/os-release

mirror="${CORRAL_DEBIAN_MIRROR:-}"
if [[ -z "$mirror" && "$ID" == debian ]]; then
  mirror="$(debian_mirror "$VERSION_CODENAME")"
  [[ -n "$mirror" ]] || die "no Debian mirror found" "the apt sources of this machine name none" \
    "set CORRAL_DEBIAN_MIRROR to the address of one"
fi

# Signatures and hashes are checked, age is not: a mirror frozen some weeks ago serves as well.
work="$(mktemp -d "$root.XXXXXX")"
trap 'rm -rf "$work"' EXIT
mkdir -p "$work"/{lists/partial,archives/partial,root}
: >"$work/status"
apt=(
  apt-get -q -y
  -o "Dir::State=$work" -o "Dir::State::lists=$work/lists" -o "Dir::State::status=$work/status"
  -o "Dir::Cache=$work" -o "Dir::Cache::archives=$work/archives"
  -o Dir::Etc::preferences=/dev/null -o Dir::Etc::preferencesparts=/dev/null
  -o Acquire::Languages=none -o Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false
  -o Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled=false
  -o Acquire::Check-Valid-Until=false -o APT::Sandbox::User=root -o APT::Install-Recommends=false
)
if [[ -n "$mirror" ]]; then
  [[ -r "$keyring" ]] || apt_install debian-archive-keyring
  printf 'deb [arch=%s signed-by=%s] %s unstable main\n' \
    "$(dpkg --print-architecture)" "$keyring" "$mirror" >"$work/sources.list"
  apt+=(-o "Dir::Etc::sourcelist=$work/sources.list" -o Dir::Etc::sourceparts=/dev/null)
  from="Debian unstable"
elif apt-cache policy llama.cpp-tools 2>/dev/null | grep -q '^  Candidate: [^(]'; then
  from="this system's own packages"
else
  die "cannot fetch llama-server" "this system (${ID:-unknown}) has no package llama.cpp-tools" \
    "set CORRAL_DEBIAN_MIRROR to a Debian mirror's address, or install llama.cpp so that llama-server is on PATH"
fi

say "fetching llama-server from $from"
log="$work/log"
# busybox gives the image a shell to look around with.
if ! { "${apt[@]}" update && "${apt[@]}" install --download-only "${packages[@]}" busybox-static; } \
  >"$log" 2>&1 </dev/null; then
  tail -n 20 "$log" >&2
  die "could not fetch llama-server" "apt-get said the above" \
    "see that the mirror answers, or set CORRAL_DEBIAN_MIRROR to another"
fi

new="$work/root"
mkdir -p "$new"/usr/{bin,sbin,lib,lib64} "$new"/{etc,proc,sys,dev,run,root,tmp,var/tmp}
chmod 1777 "$new/tmp" "$new/var/tmp"
for folder in bin sbin lib lib64; do
  ln -s "usr/$folder" "$new/$folder"
done
for package in "$work"/archives/*.deb; do
  dpkg-deb -x "$package" "$new"
done
rm -rf "$new"/usr/share/{doc,man,info,locale,lintian,bash-completion} "$new"/usr/lib/*/gconv
# Of Mesa's drivers, the one in software alone.
find "$new/usr/lib" -name 'libvulkan_*.so' ! -name libvulkan_lvp.so -delete
ln -sf busybox "$new/usr/bin/sh"
printf 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n' >"$new/etc/passwd"
printf 'root:x:0:\nnogroup:x:65534:\n' >"$new/etc/group"

# llama-server looks for its CPU backends in a fixed folder and beside its executable, and the executable is the loader.
libs="$(cd "$new" && echo usr/lib/*-linux-gnu*)"
backends="$(cd "$new" && find "$libs" -name 'libggml-cpu*.so' -printf '%h\n' -quit)"
cp --remove-destination "$new/$libs"/ld-linux-*.so.* "$new/${backends:-$libs}/llama-server"
cat >"$new/launch" <<LAUNCH
#!/bin/sh
# Runs this folder's llama-server with this folder's own loader and libraries.
root=\$(dirname "\$(readlink -f "\$0")")
lib=\$root/$libs
# Without these there is no device: nothing looks for one in software by itself.
[ -z "$vulkan" ] || {
  export VK_DRIVER_FILES="\$root/usr/share/vulkan/icd.d/lvp_icd.json"
  export GGML_VK_VISIBLE_DEVICES="\${GGML_VK_VISIBLE_DEVICES:-0}"
  export MESA_SHADER_CACHE_DIR="\$root/shaders"
}
exec "\$root/${backends:-$libs}/llama-server" --inhibit-cache --library-path "\$lib:\$lib/llama" \\
  --argv0 llama-server "\$root/usr/bin/llama-server" "\$@"
LAUNCH
chmod +x "$new/launch"

version="$("$new/launch" --version 2>&1 | sed -n 's/^version: //p')" || true
[[ -n "$version" ]] || die "the fetched llama-server does not run" "$("$new/launch" --version 2>&1 | tail -n 3)" \
  "set CORRAL_DEBIAN_MIRROR to another Debian mirror and start again"
{
  printf 'recipe %s\n' "$recipe"
  printf '%s\n' "$work"/archives/*.deb | sed 's,.*/,,' | LC_ALL=C sort
} >"$new/identity"

[[ ! -e "$root" ]] || mv "$root" "$work/old"
mv "$new" "$root"
say "llama-server $version in $root"
printf '%s\n' "$root"
