#!/usr/bin/env bash
# Proves the set-up: runs a command in a bare Debian to which only Rust, make and this working copy were added.
#
#   contrib/clean-root.sh                       make demo && make test
#   contrib/clean-root.sh contrib/setup.sh      or any other command
#
# Needs root and debootstrap. SUITE=trixie for another release than bookworm. KEEP=1 leaves it there, to look into.
# What it shares with this machine: the kernel, the network, apt's set-up, and the crates that cargo has downloaded.
set -euo pipefail
cd "$(dirname "$0")/.."
suite=${SUITE:-bookworm}

# --- outside: make the root, and remove it on every way out ---
if [ -z "${CLEAN_ROOT:-}" ]; then
  [ "$(id -u)" = 0 ] || { echo 'clean-root: needs root, for chroot and mount: try again with sudo' >&2; exit 1; }
  command -v debootstrap >/dev/null || { echo 'clean-root: debootstrap is missing: apt-get install debootstrap' >&2; exit 1; }
  CLEAN_ROOT=$(mktemp -d /var/tmp/clean-root.XXXXXX)
  chmod 755 "$CLEAN_ROOT" # apt and the servers give up root in there, and must still reach /
  export CLEAN_ROOT
  # shellcheck disable=SC2317 # called by the traps
  leave() {
    kill -9 -- "-$inside" # all of it: its process group, and what took a group of its own in there
    for link in /proc/[0-9]*/root; do
      [ "$(readlink "$link")" != "$CLEAN_ROOT" ] || kill -9 "$(cut -d/ -f3 <<<"$link")"
    done
    # The mounts lived in the namespace below and are gone with it; one file system, in case they are not.
    # What was killed above may take a moment to go, hence the second try.
    [ -n "${KEEP:-}" ] || rm -rf --one-file-system "$CLEAN_ROOT" || { sleep 2; rm -rf --one-file-system "$CLEAN_ROOT"; }
  } 2>/dev/null
  trap 'exit 129' HUP
  trap 'exit 130' INT
  trap 'exit 143' TERM
  setsid unshare --mount --propagation private "$0" "$@" & # in the background, so that a signal need not wait
  inside=$!
  trap 'leave || true' EXIT
  wait $inside
  exit
fi

# --- inside: a mount namespace of our own ---
root=$CLEAN_ROOT
# shellcheck disable=SC2016 # apt fills in REPO_URI
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep -m1 -E '/debian/?$' || true)
echo "clean-root: $suite in $root"
debootstrap --variant=minbase --include=ca-certificates,make "$suite" "$root" ${mirror:+"$mirror"} >"$root/debootstrap.log" 2>&1 ||
  { tail -n 20 "$root/debootstrap.log" >&2; echo "clean-root: debootstrap failed, see above" >&2; exit 1; }

# apt and the network as here. The sources only where the release is the same.
tree() { tar -C / -c --ignore-failed-read "$@" 2>/dev/null | tar -C "$root" -x --keep-directory-symlink; }
tree etc/apt/apt.conf.d etc/apt/auth.conf.d etc/apt/keyrings etc/apt/trusted.gpg.d usr/share/keyrings usr/local/share/ca-certificates
if grep -qsr "$suite" /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources; then
  rm -f "$root/etc/apt/sources.list"
  tree etc/apt/sources.list etc/apt/sources.list.d
fi
for file in /etc/resolv.conf /etc/hosts /etc/ssl/certs/ca-certificates.crt; do
  cat "$file" >"$root$file"
done

for dir in proc sys dev; do
  mount --rbind "/$dir" "$root/$dir"
done
mkdir -p "$root/opt/rust" "$root/root/.cargo/registry" "$root/src"
mount --bind -o ro "$(rustc --print sysroot)" "$root/opt/rust"
for part in cache index; do # copied, not shared: cargo writes to them
  [ ! -d "${CARGO_HOME:-$HOME/.cargo}/registry/$part" ] || cp -a "${CARGO_HOME:-$HOME/.cargo}/registry/$part" "$root/root/.cargo/registry/"
done
git ls-files -z --cached --others --exclude-standard | tar -c --null --ignore-failed-read -T - | tar -C "$root/src" -x

keep=()
for name in http_proxy https_proxy no_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY SSL_CERT_FILE SSL_CERT_DIR CARGO_HTTP_CAINFO; do
  [ -z "${!name:-}" ] || keep+=("$name=${!name}")
done
[ $# -gt 0 ] || set -- sh -c 'make demo && make test'
echo "clean-root: $*"
exec chroot "$root" env -i HOME=/root USER=root TERM="${TERM:-dumb}" LANG=C.UTF-8 "${keep[@]}" \
  PATH=/root/.cargo/bin:/opt/rust/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
  sh -c 'cd /src && exec "$@"' clean-root "$@" </dev/null
