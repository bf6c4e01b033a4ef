#!/usr/bin/env bash
# `make demo`: records a small TCP workload of its own for some seconds and prints the reports from it.
# Where probes cannot be loaded it says why and reads a recording that comes with the sources.
#
#   contrib/demo.sh [FOLDER]    with the programs in that folder, instead of building them
set -euo pipefail
cd "$(dirname "$0")/.."
bin=${1:-${CARGO_TARGET_DIR:-target}/release}
if [ $# = 0 ]; then
  contrib/setup.sh
  echo 'demo: building both programs (about ten minutes the first time, most of it polars)'
  cargo build --release --quiet
fi
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
ask() { run "$bin/analyze" "$trace" "$@" || [ $? = 3 ]; } # 3: an answer that is a lower bound, and says so
ask
ask tcpsend
ask tcplat
ask flows --top 5
ask execsnoop --top 10
