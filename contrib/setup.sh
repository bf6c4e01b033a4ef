#!/usr/bin/env bash
# Installs what is missing, through apt. Nothing missing: no network, no root, a fraction of a second.
#
#   contrib/setup.sh            what the build needs
#   contrib/setup.sh --tests    and what the tests, the demo and the guests use
#   contrib/setup.sh --ci       and what `make lint` uses
set -euo pipefail
cd "$(dirname "$0")/.."

cargo_deny=0.20.2 # pinned: a new release may know new complaints
newest_clang=19   # the newest that our probes were compiled with; a newer one that is installed is used as well
oldest_clang=14   # the first that writes declaration tags

# One need a line. The first word is what proves it: a command, a header, or a function below. Then its package
# on Debian and Ubuntu, Fedora, Arch, Homebrew. `-`: not needed there (capture is for Linux; macOS gets analyze).
base='
has_clang                  CLANG            clang                  clang            -
/usr/include/libelf.h      libelf-dev       elfutils-libelf-devel  libelf           -
/usr/include/zlib.h        zlib1g-dev       zlib-devel             zlib             -
/usr/include/stdio.h       libc6-dev        glibc-devel            glibc            -
cc                         gcc              gcc                    gcc              -
make                       make             make                   make             -
pkg-config                 pkg-config       pkgconf-pkg-config     pkgconf          -
capnp                      capnproto        capnproto              capnproto        capnp
zstd                       zstd             zstd                   zstd             zstd
python3                    python3          python3                python           python3
git                        git              git                    git              git'
tests='
bpftrace                   bpftrace         bpftrace               bpftrace         -
ip                         iproute2         iproute                iproute2         -
ping                       iputils-ping     iputils                iputils          -
strace                     strace           strace                 strace           -
pidstat                    sysstat          sysstat                sysstat          -
uftrace                    uftrace          uftrace                uftrace          -
gnutls-serv                gnutls-bin       gnutls-utils           gnutls           -
pkill                      procps           procps-ng              procps-ng        -
redis-server               redis-server     redis                  redis            -
redis-cli                  redis-tools      redis                  redis            -
mariadbd                   mariadb-server-core mariadb-server       mariadb          -
mariadb                    mariadb-client-core mariadb              mariadb-clients  -
nginx                      nginx            nginx                  nginx            -
wrk                        wrk              wrk                    wrk              -
qemu-system-x86_64         qemu-system-x86  qemu-system-x86-core   qemu-system-x86  -
has_static_busybox         busybox-static   busybox                busybox          -
cpio                       cpio             cpio                   cpio             -
losetup                    mount            util-linux             util-linux       -
blkdiscard                 util-linux       util-linux             util-linux       -
modprobe                   kmod             kmod                   kmod             -
xz                         xz-utils         xz                     xz               -'

die() { printf 'setup: %s\n' "$@" >&2; exit 1; }

has_clang() { # as build.rs looks for it
  local name version
  for name in clang $(seq -f 'clang-%g' 24 -1 "$oldest_clang"); do
    version=$("$name" -dumpversion 2>/dev/null) || continue
    [ "${version%%.*}" -lt "$oldest_clang" ] || return 0
  done
  return 1
}
# The guests have no libraries, so busybox must not need any.
has_static_busybox() { command -v busybox >/dev/null && ! ldd "$(command -v busybox)" >/dev/null 2>&1; }

needs=$base ci=
for word; do
  case $word in
    --tests) needs+=$tests ;;
    --ci) ci=yes ;;
    *) die "unknown option $word: expected --tests, --ci or nothing" ;;
  esac
done

# --- Rust: not ours to install, and Debian's own is often too old ---
rust_hint='install the stable toolchain with rustup (https://rustup.rs), open a new shell, and try again'
command -v cargo >/dev/null || die "cargo is not on the PATH: $rust_hint"
wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
found=$(rustc --version | cut -d' ' -f2)
[ "$(printf '%s\n' "$wanted" "$found" | sort -V | head -n1)" = "$wanted" ] ||
  die "rustc is version $found, expected $wanted or newer: $rust_hint"

# --- system packages ---
system=$(uname -s)
apt=() dnf=() pacman=() brew=()
missing() { # the lists of packages, as far as what proves them is not here
  local proof a d p b
  apt=() dnf=() pacman=() brew=()
  while read -r proof a d p b; do
    [ -n "$proof" ] || continue
    [ "$system" = Linux ] || [ "$b" != - ] || continue
    case $proof in
      /*) [ ! -e "$proof" ] || continue ;;
      has_*) ! "$proof" || continue ;;
      *) ! command -v "$proof" >/dev/null || continue ;;
    esac
    apt+=("$a") dnf+=("$d") pacman+=("$p") brew+=("$b")
  done <<<"$needs"
}

by_hand() {
  printf 'setup: %s\n' "$1" 'Please install what is missing, and try again:'
  if [ "$system" = Linux ]; then
    printf '  %s\n' "Debian, Ubuntu:  apt-get install ${apt[*]/CLANG/clang}" "Fedora:          dnf install ${dnf[*]}" \
      "Arch:            pacman -S ${pacman[*]}" "elsewhere:       whatever these are called there"
    printf '%s\n' '(Only the names for Debian and Ubuntu are tested.)' \
      'To read traces, cargo and a C compiler are enough: cargo build --release --no-default-features --features analyze'
  else
    printf '  %s\n' "macOS:  brew install ${brew[*]}"
  fi
  exit 1
} >&2

export PATH=$PATH:/usr/sbin:/sbin # where modprobe, nginx and ip may be, also for an ordinary user
missing
if [ ${#apt[@]} -gt 0 ]; then
  command -v apt-get >/dev/null || by_hand "${#apt[@]} needed packages are missing, and there is no apt here."
  root=()
  if [ "$(id -u)" != 0 ]; then
    # Ask for a password only where somebody can type it.
    [ -t 0 ] || sudo -n true 2>/dev/null || by_hand "${#apt[@]} needed packages are missing, and only root can install them."
    command -v sudo >/dev/null || by_hand "${#apt[@]} needed packages are missing, and there is no sudo to install them with."
    root=(sudo)
  fi
  echo "setup: installing ${apt[*]/CLANG/clang}"
  get=("${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=120 -o Acquire::Retries=3)
  "${get[@]}" update || echo 'setup: apt-get update failed (see above); going on with the lists that are here' >&2
  clang=$(apt-cache pkgnames clang- | sed -n 's/^clang-\([0-9]*\)$/\1/p' | sort -n |
    awk -v lo="$oldest_clang" -v hi="$newest_clang" '$1 >= lo && $1 <= hi { n = $1 } END { print n ? "clang-" n : "clang" }')

  # Servers are here to be started by a test, never by their package: not now, and not at the next boot.
  policy=/usr/sbin/policy-rc.d
  if [ ! -e $policy ]; then
    trap '"${root[@]}" rm -f $policy' EXIT
    printf '#!/bin/sh\n# Left behind by contrib/setup.sh of tapedeck? Then it can go.\nexit 101\n' | "${root[@]}" tee $policy >/dev/null
    "${root[@]}" chmod 755 $policy
  fi
  "${get[@]}" install -y --no-install-recommends "${apt[@]/CLANG/$clang}" </dev/null >/dev/null ||
    by_hand 'apt-get install failed (see above).'
  for service in redis-server nginx; do
    [[ " ${apt[*]} " != *" $service "* ]] || "${root[@]}" update-rc.d "$service" disable 2>/dev/null || true
  done
  wanted=${apt[*]}
  missing
  [ ${#apt[@]} = 0 ] || die "installed $wanted, and yet this is not found: ${apt[*]} (look at the PATH, and at apt's messages above)"
fi

# --- where the kernel lists its tracepoints: distributions mount it at boot, bare virtual machines and containers do not ---
tracefs=/sys/kernel/tracing
if [ "$system" = Linux ] && [ "$needs" != "$base" ] && [ "$(id -u)" = 0 ] && [ -d $tracefs ] && [ ! -e $tracefs/events ]; then
  echo "setup: mounting tracefs on $tracefs"
  mount -t tracefs nodev $tracefs || echo 'setup: tracefs cannot be mounted: tests that need tracepoints by name will fail' >&2
fi

# --- tools of `make lint` ---
if [ "$ci" ]; then
  cargo fmt --version >/dev/null 2>&1 || die 'cargo fmt is missing: rustup component add rustfmt'
  cargo clippy --version >/dev/null 2>&1 || die 'cargo clippy is missing: rustup component add clippy'
  # Without optimization: a minute of build instead of many, and it runs for a second.
  if ! cargo deny --version >/dev/null 2>&1; then
    echo "setup: building cargo-deny $cargo_deny, about a minute"
    cargo install --quiet --locked --debug --version "$cargo_deny" cargo-deny
  fi
fi
