#!/bin/busybox sh
# shellcheck shell=dash
#
# Runs in a guest: the Rust live tests, with the static `capture` and workload beside them.
#
#   live.sh DEBUG    the folder of the programs when the tests were built: they look for them there
#
# Leaves in /out/live what the tests printed (log) and how they ended (status).
mkdir -p /out/live "$(dirname "$1")/tmp"
ln -s /payload/live "$1"
REQUIRE_LIVE=probes timeout 1500 "$1/deps/live" --test-threads 2 >/out/live/log 2>&1
echo $? >/out/live/status
