#!/usr/bin/env bash
# `make demo`: records a small TCP workload of its own for some seconds and prints the reports from it.
# Where probes cannot be loaded it says why and reads a recording that comes with the sources.
set -euo pipefail
cd "$(dirname "$0")/.."
contrib/setup.sh
echo 'demo: building both programs (about ten minutes the first time, most of it polars)'
cargo build --release --quiet
bin=${CARGO_TARGET_DIR:-target}/release
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
trace=$dir/demo.bin

run() { printf '\n$ %s\n' "$*" | sed "s#$bin/##g; s#$dir/##g" && "$@"; }

if run "$bin/capture" -o "$trace" -g proc,net,net-rx -- python3 contrib/demo_workload.py; then
  :
else
  echo "demo: no recording here, for the reason above: reading fixtures/pingpong.bin instead"
  trace=fixtures/pingpong.bin
fi
run "$bin/analyze" "$trace"
run "$bin/analyze" "$trace" tcpsend
run "$bin/analyze" "$trace" tcplat
run "$bin/analyze" "$trace" flows --top 5
run "$bin/analyze" "$trace" execsnoop --top 10
