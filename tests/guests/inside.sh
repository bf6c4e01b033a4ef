#!/bin/busybox sh
# shellcheck shell=dash
#
# Runs in a guest: records the truth's workloads with `capture`, first with nothing forced ("auto"), then once per
# attach kind with every network probe forced to that kind.
#
#   inside.sh KIND...
#   inside.sh cases PREFIX CASE...    what each recording runs
#
# Leaves in /out, per recording: KIND.bin (the trace), .stderr and .status (of capture); KIND.PROBE.refused for each
# probe that capture could not attach so, with its reason (the recording then goes on without forcing that one); and
# per workload KIND.CASE.json (the truth) and .stderr.
#
# "observer" is a run without capture, in which the kernel's own kprobe events counted the calls of tcp_sendmsg and
# tcp_recvmsg (observer.count): it proves the truth itself.

network="sends-v4 sends-v6 sends-mapped large pingpong-v4 pingpong-v6 twothreads connects waiting odd-v4 odd-v6"
odd=shared_over_fork,eagain,zero_length,peek,vectors,half_close,reset,port_reuse,io_uring

command_of() {
  case $1 in
    sends-v4) echo sends --family v4 --count 200 --size 1000 ;;
    sends-v6) echo sends --family v6 --count 150 --size 3000 ;;
    sends-mapped) echo sends --family mapped --count 100 --size 500 ;;
    large) echo sends --family v4 --count 20 --size 300000 ;;
    pingpong-v4) echo pingpong --family v4 --count 30 --size 100 --reply 500 --delay-ms 5 ;;
    pingpong-v6) echo pingpong --family v6 --count 30 --size 100 --reply 500 --delay-ms 5 ;;
    waiting*) echo pingpong --family v4 --count 10 --size 100 --reply 500 --delay-ms 20 ;;
    twothreads) echo twothreads --family v4 --count 100 --size 1000 ;;
    connects) echo connects --family v4 --count 10 --size 1000 --reply 200 ;;
    odd-v4) echo odd --family v4 --case $odd ;;
    odd-v6) echo odd --family v6 --case $odd ;;
    spliced) echo odd --family v4 --case spliced ;;
    execs) echo execs --count 20 --missing 7 ;;
  esac
}

# run_truth PREFIX CASE: one workload.
run_truth() {
  # shellcheck disable=SC2046 # words on purpose
  ./truth $(command_of "$2") --output "$1.$2.json" 2>"$1.$2.stderr" ||
    echo "truth ended with $?" >>"$1.$2.stderr"
}

# cases PREFIX CASE...: "waiting" is many at once, more than there are processors: their calls of recv() wait, and a
# kretprobe follows only so many at a time.
cases() {
  prefix=$1
  shift
  for name; do
    if [ "$name" = waiting ]; then
      for number in 1 2 3 4 5 6 7 8; do run_truth "$prefix" "waiting$number" & done
      wait
    else
      run_truth "$prefix" "$name"
    fi
  done
}

# record KIND CASE...: drops what cannot be forced, one probe after the other.
record() {
  kind=$1
  base=/out/$1
  shift
  probes="sock_send sock_recv sock_accept tcp_rx exec_failed"
  [ "$kind" != auto ] || probes=
  while :; do
    attach=
    for probe in $probes; do attach="$attach --attach $probe=$kind"; done
    # shellcheck disable=SC2086 # words on purpose
    timeout 100 ./capture --force -o "$base.bin" -g net,net-rx,proc $attach -- \
      sh ./inside.sh cases "$base" "$@" 2>"$base.stderr"
    echo $? >"$base.status"
    refused=$(sed -n "s/^capture: --attach \([a-z_]*\)=$kind is not possible here: .*/\1/p" "$base.stderr")
    [ -n "$refused" ] || break
    mv "$base.stderr" "$base.$refused.refused"
    rest=
    for probe in $probes; do [ "$probe" = "$refused" ] || rest="$rest $probe"; done
    probes=$rest
  done
}

# hits EVENT: how often a kprobe event of ours has fired.
hits() { awk -v event="$1" '$1 == event {print $2}' "$tracing/kprobe_profile"; }

# Counts with the kernel's own kprobe events, one entry probe each.
observe() {
  tracing=/sys/kernel/tracing
  [ -e $tracing/kprobe_events ] || return 0
  printf 'p:truth/%s %s\n' sends tcp_sendmsg receives tcp_recvmsg >$tracing/kprobe_events
  echo 1 >$tracing/events/truth/enable
  cases /out/observer "$@"
  echo 0 >$tracing/events/truth/enable
  echo "$(hits sends) $(hits receives)" >/out/observer.count
  : >$tracing/kprobe_events
}

if [ "${1:-}" = cases ]; then
  shift
  cases "$@"
  exit
fi
# shellcheck disable=SC2086 # words on purpose
{
  observe $network
  record auto $network spliced execs
  for kind; do record "$kind" $network spliced execs; done
}
