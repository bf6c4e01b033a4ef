#!/usr/bin/env bash
# The static `capture` on other kernels: records the truth's workloads in guests with each attach kind forced in turn,
# checks the traces here (compare.py), and prints kernel x probe x attach kind: right, wrong or not there. Then the
# Rust live tests run there too, with the same `capture`; those that need a program that a guest lacks skip, aloud.
#
#   run.sh
#
# Exit status 0: nothing wrong; 1: something is. A kernel that cannot be had is skipped aloud; if none can, that is a
# skip as a whole, or a failure under REQUIRE_LIVE=1.
#
# Environment: KERNELS ("5.10 6.1 6.12"; see vm.sh list), KINDS ("fentry kprobe tracepoint"), CAPTURE (dist/capture,
# made by `make dist`), TRUTH (built here unless given), ANALYZE (target/release/analyze or target/debug/analyze),
# LIVE (the program of the live tests, built here unless given), MAY_SLEEP (1: guests sleep too),
# RESULTS (target/test-kernels: traces, truths and consoles stay there), JOBS (guests at a time: one per processor), and
# those of vm.sh. Paths are as seen from the top folder.
set -euo pipefail
cd "$(dirname "$0")/../.."
guests=tests/guests

read -ra kernels <<<"${KERNELS:-5.10 6.1 6.12}"
kinds=${KINDS:-fentry kprobe tracepoint}
capture=${CAPTURE:-dist/capture}
results=${RESULTS:-target/test-kernels}
jobs=${JOBS:-$(nproc)}

die() { echo "run.sh: $*" >&2; exit 1; }

find_analyze() {
  local candidate
  for candidate in ${ANALYZE:-target/release/analyze target/debug/analyze}; do
    [ ! -x "$candidate" ] || { echo "$candidate"; return; }
  done
  die "no analyze: build it (cargo build --release --bin analyze) or name it in ANALYZE"
}

# The workload as one static file, built as dist/capture is, so that nothing is built twice.
build_truth() {
  local target=x86_64-unknown-linux-gnu
  CARGO_TARGET_DIR=target/dist RUSTFLAGS="-C target-feature=+crt-static" \
    LIBBPF_SYS_LIBRARY_PATH=$(pkg-config --variable=libdir libelf) cargo build --quiet --release \
    --no-default-features --features capture,static --target "$target" --example truth >&2 ||
    die "the truth workload does not build"
  echo "target/dist/$target/release/examples/truth"
}

build_live() {
  cargo test --quiet --no-run --test live --message-format=json |
    sed -n 's/.*"executable":"\([^"]*\/live-[^"]*\)".*/\1/p'
}

# with_libraries PROGRAM...: what they load, where they look for it.
with_libraries() {
  local file
  for file in $(ldd "$@" | grep -o '/[^ :]*' | sort -u); do
    case $file in *.so*) install -D "$file" "$payload/root$file" ;; esac
  done
}

# The live tests, stripped of what they do not need to run, and the few programs that many of them run.
pack_live() {
  local program programs=()
  mkdir -p "$payload"/live/{deps,examples} "$payload"/root/{bin,etc,run}
  strip -o "$payload/live/deps/live" "$live"
  ln -s ../capture "$payload/live/capture"
  ln -s ../../truth "$payload/live/examples/truth"
  cc -O1 -fno-omit-frame-pointer -o "$payload/live/examples/named" tests/truth/named.c
  for program in bash ip strace zstd; do
    if program=$(command -v "$program"); then programs+=("$program"); fi
  done
  cp "${programs[@]}" "$payload/root/bin/"
  with_libraries "$live" "$payload/live/examples/named" "${programs[@]}"
  grep -E '^(root|nobody):' /etc/passwd >"$payload/root/etc/passwd"
}

# boot KERNEL: one boot, all recordings and tests. 77: this kernel cannot be had here.
boot() {
  VM_OUT_MB=${VM_OUT_MB:-256} VM_TIMEOUT=${VM_TIMEOUT:-2400} \
    "$guests/vm.sh" run "$1" "$payload" "$results/$1" "sh ./inside.sh $kinds; sh ./live.sh $(dirname "$(dirname "$live")") ${MAY_SLEEP:+sleep}"
}

# live_tests KERNEL: what they said there.
live_tests() {
  local log=$results/$1/live/log
  grep -h '^SKIPPED' "$log" | sed "s/^/$1 /" || true
  sed -n "s/^test result:/$1 live tests:/p" "$log"
  [ "$(cat "$results/$1/live/status")" = 0 ] || { sed -n '/^failures:/,$p' "$log"; return 1; }
}

[ -x "$capture" ] || die "no $capture: make dist, or name one in CAPTURE"
analyze=$(find_analyze)
truth=${TRUTH:-$(build_truth)}
[ -x "$truth" ] || die "no $truth"
live=$(realpath "${LIVE:-$(build_live)}")

payload=$(mktemp -d)
trap 'rm -rf "$payload"' EXIT
cp "$capture" "$payload/capture"
cp "$truth" "$payload/truth"
cp "$guests/inside.sh" "$guests/live.sh" "$payload/"
pack_live

# Fetched one by one, since kernels of one suite share an apt state; booted side by side, since a guest uses one
# processor (see vm.sh, thread=single).
declare -A pid_of=()
done_kernels=() skipped=() failed=0
for kernel in "${kernels[@]}"; do
  rm -rf "${results:?}/$kernel"
  status=0
  "$guests/vm.sh" fetch "$kernel" || status=$?
  case $status in
    0) ;;
    77) skipped+=("$kernel"); continue ;;
    *) failed=1; continue ;;
  esac
  while [ "$(jobs -pr | wc -l)" -ge "$jobs" ]; do wait -n || true; done
  echo "run.sh: kernel $kernel" >&2
  boot "$kernel" &
  pid_of[$kernel]=$!
done
for kernel in "${kernels[@]}"; do
  [ -n "${pid_of[$kernel]:-}" ] || continue
  status=0
  wait "${pid_of[$kernel]}" || status=$?
  case $status in
    0) done_kernels+=("$kernel") ;;
    77) skipped+=("$kernel") ;;
    *) echo "run.sh: kernel $kernel: the guest ended with $status" >&2; failed=1 ;;
  esac
done

if [ ${#done_kernels[@]} -gt 0 ]; then
  "$guests/compare.py" "$analyze" "$results" "${done_kernels[@]}" || failed=1
  for kernel in "${done_kernels[@]}"; do live_tests "$kernel" || failed=1; done
elif [ "$failed" = 0 ]; then
  echo "SKIP: no kernel could be booted" >&2
  [ "${REQUIRE_LIVE:-0}" != 1 ] || failed=1
fi
[ ${#skipped[@]} = 0 ] || echo "SKIP: kernels that cannot be had here: ${skipped[*]}" >&2
exit "$failed"
