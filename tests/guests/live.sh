#!/bin/busybox sh
# shellcheck shell=dash
#
# Runs in a guest: the Rust live tests, with the static `capture` and workload beside them.
#
#   live.sh DEBUG [sleep]    the folder of the programs when the tests were built: they look for them there; whether
#                            the guest may be sent to sleep
#
# Leaves in /out/live what the tests printed (log) and how they ended (status).
mkdir -p /out/live "$(dirname "$1")/tmp"
ln -s /payload/live "$1"

# The others (files, syscalls, privileges, abuse, …) still ask for programs, or for a machine,
# that a guest is not: they run on the host alone.
modules="cli:: clocks:: cost:: crash:: exec:: filters:: hotplug:: kernel_functions:: ledger:: made_up:: named:: named_open:: named_perf:: named_stacks:: named_sums:: named_tracers:: named_values:: presets::
  observers:: odd:: output::
  privacy:: receive:: sched:: sends:: stat:: state::"

# One after the other: a recorder that comes or goes makes the kernel forget the returns of calls in flight, which the
# others count as lost (see ledger::a_receive_that_waits_…).
[ "${2-}" != sleep ] || export MAY_SLEEP=1
# shellcheck disable=SC2086 # a word for each module
MAY_SET_CLOCK=1 REQUIRE_LIVE=probes timeout 1500 "$1/deps/live" --test-threads 1 $modules >/out/live/log 2>&1
echo $? >/out/live/status
