#!/usr/bin/env bash
# Boot a Debian kernel in QEMU with a directory of ours, run one command in it, bring back what it left.
#
#   vm.sh list                              the kernels that this script knows
#   vm.sh fetch NAME                        newest package of that kernel, unpacked under $VM_CACHE/NAME
#   vm.sh run NAME PAYLOAD_DIR OUT_DIR CMD  boot it; the payload is the working directory of CMD, but its folder
#                                           `root`, if any, is laid over the guest's root;
#                                           what CMD leaves in /out comes back in OUT_DIR
#
# `run` exits with the status of CMD (a shell command line), whose output is in OUT_DIR/stdout and /stderr.
# Two statuses are ours: 77, "cannot be had here, the reason is on stderr: a skip, not a failure", and 99,
# "the guest ended without a result": it hung, or panicked; the end of its console is on stderr.
#
# Needs qemu-system-x86, a static busybox and cpio; neither root nor KVM. Packages come from the mirror that
# apt is configured with, through an apt state of our own: nothing is installed, apt's own lists stay untouched.
#
# Environment: VM_CACHE (target/vm-cache), VM_MIRROR (a Debian mirror, if apt has none), VM_TIMEOUT (180 s),
# VM_MEM (1024 MiB), VM_CPUS (2), VM_OUT_MB (64: room for OUT_DIR), VM_APPEND (more kernel arguments).
set -euo pipefail

readonly SKIP=77 NO_RESULT=99
cache=$(realpath -m "${VM_CACHE:-target/vm-cache}")

# name, suite, package names as a regular expression: Debian counts upwards inside a suite and drops the old ones.
# The "cloud" builds are small, and have all that we ask for: BTF, NVMe, a serial console.
kernels() {
  cat <<'TABLE'
5.10 bullseye-security  linux-image-5\.10\.0-[0-9]+-cloud-amd64
6.1  bookworm-security  linux-image-6\.1\.0-[0-9]+-cloud-amd64
6.12 bookworm-security  linux-image-6\.12\.[0-9]+\+deb12-cloud-amd64
6.18 trixie-backports   linux-image-6\.18\.[0-9]+\+deb13-cloud-amd64
7.3  trixie-backports   linux-binary-7\.3\.[0-9]+\+deb13-cloud-amd64
TABLE
}

say() { echo "vm.sh: $*" >&2; }
skip() { say "SKIP: $*"; exit "$SKIP"; }
usage() { sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0" >&2; exit 2; }

need() {
  local program
  for program; do
    command -v "$program" >/dev/null || skip "$program is not installed" \
      "(apt-get install --no-install-recommends qemu-system-x86 busybox-static cpio)"
  done
}

# --- fetch: a kernel package, unpacked --------------------------------------------------------------------------

# The archive that holds SUITE, on the mirror that apt uses already.
archive_of() {
  local suite=$1 base=${VM_MIRROR:-}
  if [ -z "$base" ]; then
    # shellcheck disable=SC2016 # apt's own variable, not the shell's
    base=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 2>/dev/null |
      grep -E '/debian/?$' | head -n 1) || true
  fi
  [ -n "$base" ] || skip "apt has no Debian mirror configured (name one in VM_MIRROR)"
  base=${base%/}
  case $suite in
    *-security) echo "$base-security" ;;
    *) echo "$base" ;;
  esac
}

# A private apt for one suite; prints the path of its configuration. Signatures are checked as ever, but not the
# expiry of the index: the archive of a suite at the end of its life is no longer signed anew.
private_apt() {
  local suite=$1 dir=$cache/apt/$1 archive
  archive=$(archive_of "$suite") || return
  mkdir -p "$dir"/{lists/partial,archives/partial,parts}
  : >"$dir/status"
  echo "deb $archive $suite main" >"$dir/sources.list"
  cat >"$dir/apt.conf" <<CONF
Dir::State::lists "$dir/lists/";
Dir::State::status "$dir/status";
Dir::Cache "$dir/";
Dir::Cache::archives "$dir/archives/";
Dir::Etc::sourcelist "$dir/sources.list";
Dir::Etc::sourceparts "$dir/parts/";
APT::Sandbox::User "root";
APT::Update::Error-Mode "any";
Acquire::Check-Valid-Until "false";
Acquire::Languages "none";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
CONF
  echo "$dir/apt.conf"
}

# Half a day old lists are good enough.
update_lists() {
  local dir=${1%/apt.conf}
  [ -z "$(find "$dir/lists" -maxdepth 1 -name '*Packages*' -mmin -720 -print -quit)" ] || return 0
  APT_CONFIG=$1 apt-get -qq update
}

fetch() {
  local name=$1 dir=$cache/$1 suite regex conf package
  [ ! -e "$dir/unpacked" ] || return 0
  read -r suite regex < <(kernels | awk -v name="$name" '$1 == name {print $2, $3}') ||
    { say "unknown kernel $name; see: vm.sh list"; exit 2; }
  need apt-get apt-cache dpkg
  conf=$(private_apt "$suite") || exit # the reason has been said
  update_lists "$conf" || skip "kernel $name: the mirror does not answer for $suite"
  package=$(APT_CONFIG=$conf apt-cache pkgnames | grep -xE "$regex" | sort -V | tail -n 1) || true
  [ -n "$package" ] || skip "kernel $name: no package of that series in $suite any more"
  rm -rf "$dir"
  mkdir -p "$dir/root"
  (cd "$dir" && APT_CONFIG=$conf apt-get -qq download "$package") ||
    skip "kernel $name: $package is in the index, but not on the mirror"
  dpkg -x "$dir"/*.deb "$dir/root"
  rm "$dir"/*.deb
  echo "$package" >"$dir/unpacked"
  say "kernel $name: $package"
}

# --- run: one boot, one command ---------------------------------------------------------------------------------

# The first and only process of the guest. The result leaves as a tar written straight onto the raw NVMe disk: the
# one way out that every kernel of the table has built in.
write_init() {
  cat >"$1" <<'INIT'
#!/bin/busybox sh
export PATH=/bin:/sbin HOME=/tmp
/bin/busybox --install -s /bin
mount -t proc none /proc
mount -t sysfs none /sys
mount -t devtmpfs none /dev
mkdir -p /dev/shm /dev/pts
while read -r type at; do mount -t "$type" none "$at" 2>/dev/null; done <<MOUNTS
tmpfs /dev/shm
devpts /dev/pts
tmpfs /tmp
tmpfs /out
tracefs /sys/kernel/tracing
debugfs /sys/kernel/debug
bpf /sys/fs/bpf
cgroup2 /sys/fs/cgroup
MOUNTS
ip link set lo up
cd /payload
sh /command >/out/stdout 2>/out/stderr </dev/null
echo $? >/out/status
uname -r >/out/uname
dmesg >/out/dmesg
tar c -C /out . | dd of=/dev/nvme0n1 bs=1M conv=fsync 2>/dev/null
poweroff -f
INIT
  chmod +x "$1"
}

# The root of the guest as an initramfs: busybox, the payload, the command.
pack_initramfs() {
  local work=$1 payload=$2 root=$1/root
  shift 2
  mkdir -p "$root"/{bin,proc,sys,dev,tmp,out,payload}
  cp "$(command -v busybox)" "$root/bin/busybox"
  cp -a "$payload/." "$root/payload/"
  if [ -d "$root/payload/root" ]; then
    cp -a "$root/payload/root/." "$root/"
    rm -r "$root/payload/root"
  fi
  echo "$*" >"$root/command"
  write_init "$root/init"
  (cd "$root" && find . -print0 | cpio --null --create --format=newc --owner=0:0 --quiet) >"$work/initramfs"
}

# thread=single: the multi-threaded TCG of QEMU 7.2 breaks the kernel's patching of its own text, that is, of
# tracepoints. tsc=reliable: otherwise two-CPU guests of 5.10 and 6.1 fall back to the hpet, where every reading of
# the clock is a system call. KVM is not asked for: not every host has one that boots these kernels.
boot() {
  local work=$1 kernel=$2 console=$3
  timeout --kill-after=5 "${VM_TIMEOUT:-180}" qemu-system-x86_64 \
    -accel tcg,thread=single -cpu max -smp "${VM_CPUS:-2}" -m "${VM_MEM:-1024}" \
    -nodefaults -display none -no-reboot -serial "file:$console" \
    -kernel "$kernel" -initrd "$work/initramfs" \
    -append "console=ttyS0 quiet panic=-1 tsc=reliable ${VM_APPEND:-}" \
    -drive "file=$work/disk,if=none,id=disk,format=raw,cache=unsafe" -device nvme,serial=out,drive=disk </dev/null
}

run() {
  local name=$1 payload=$2 out=$3 kernel status=0
  shift 3
  need qemu-system-x86_64 busybox cpio
  fetch "$name"
  kernel=$(find "$cache/$name/root" -type f -name 'vmlinuz*' | head -n 1)
  work=$(mktemp -d) # global: the trap runs after this function's locals are gone
  trap 'rm -rf "$work"' EXIT
  rm -rf "$out"
  mkdir -p "$out"
  pack_initramfs "$work" "$payload" "$@"
  truncate -s "${VM_OUT_MB:-64}M" "$work/disk"
  boot "$work" "$kernel" "$out/console" || status=$?
  tar xf "$work/disk" -C "$out" 2>/dev/null || status="$status, and the result cannot be unpacked (VM_OUT_MB?)"
  if [ "$status" != 0 ] || [ ! -e "$out/status" ]; then
    say "kernel $name: no result (qemu ended with $status); the end of its console:"
    tail -n 30 "$out/console" >&2 || true
    exit "$NO_RESULT"
  fi
  exit "$(cat "$out/status")"
}

case ${1:-} in
  list) kernels ;;
  fetch) [ $# = 2 ] || usage; fetch "$2" ;;
  run) [ $# -ge 5 ] || usage; shift; run "$@" ;;
  *) usage ;;
esac
