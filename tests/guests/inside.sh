#!/bin/busybox sh
# shellcheck shell=dash
#
# Runs in a guest: records the truth workload with `capture`, probe by probe, each attach kind forced in turn.
#
#   inside.sh KIND...
#
# Leaves in /out, per recording: PROBE.KIND.CASE.bin (the trace), .json (the truth), .stderr and .status (of capture).
# "all.auto" is a recording with nothing forced; "observer.kprobe.CASE" is a run without capture, in which the
# kernel's own kprobe events counted the calls of tcp_sendmsg and tcp_recvmsg (.count): it proves the truth itself.

odd_exact=shared_over_fork,eagain,zero_length,peek,vectors,half_close,reset,port_reuse,io_uring

command_of() {
  case $1 in
    sends-v4) echo sends --family v4 --count 200 --size 1000 ;;
    sends-v6) echo sends --family v6 --count 150 --size 3000 ;;
    sends-mapped) echo sends --family mapped --count 100 --size 500 ;;
    large) echo sends --family v4 --count 20 --size 300000 ;;
    pingpong-v4) echo pingpong --family v4 --count 30 --size 100 --reply 500 --delay-ms 5 ;;
    pingpong-v6) echo pingpong --family v6 --count 30 --size 100 --reply 500 --delay-ms 5 ;;
    twothreads) echo twothreads --family v4 --count 100 --size 1000 ;;
    connects) echo connects --family v4 --count 10 --size 1000 --reply 200 ;;
    odd-v4) echo odd --family v4 --case $odd_exact ;;
    odd-v6) echo odd --family v6 --case $odd_exact ;;
    spliced) echo odd --family v4 --case spliced ;;
    execs) echo execs --count 20 ;;
  esac
}

cases_of() {
  case $1 in
    sock_send) echo sends-v4 sends-v6 sends-mapped twothreads ;;
    sock_recv) echo sends-v4 sends-v6 sends-mapped ;;
    tcp_rx) echo pingpong-v4 pingpong-v6 ;;
    all) echo sends-v4 sends-v6 sends-mapped large pingpong-v4 pingpong-v6 twothreads connects odd-v4 odd-v6 spliced execs ;;
    observer) echo sends-v4 sends-v6 sends-mapped large pingpong-v4 twothreads connects odd-v4 odd-v6 ;;
  esac
}

# record PROBE KIND: every case of the probe.
record() {
  attach="--attach $1=$2"
  [ "$2" != auto ] || attach=
  for name in $(cases_of "$1"); do
    base=/out/$1.$2.$name
    # shellcheck disable=SC2046,SC2086 # words on purpose
    timeout 60 ./capture -o "$base.bin" -g net,net-rx,proc $attach -- \
      ./truth $(command_of "$name") --output "$base.json" >"$base.stdout" 2>"$base.stderr"
    echo $? >"$base.status"
  done
}

# hits EVENT: how often a kprobe event of ours has fired.
hits() { awk -v event="$1" '$1 == event {print $2}' "$tracing/kprobe_profile"; }

# Counts with the kernel's own kprobe events, one entry probe each.
observe() {
  tracing=/sys/kernel/tracing
  [ -e $tracing/kprobe_events ] || return 0
  for name in $(cases_of observer); do
    base=/out/observer.kprobe.$name
    printf 'p:truth/%s %s\n' sends tcp_sendmsg receives tcp_recvmsg >$tracing/kprobe_events
    echo 1 >$tracing/events/truth/enable
    # shellcheck disable=SC2046 # words on purpose
    ./truth $(command_of "$name") --output "$base.json" 2>"$base.stderr"
    echo $? >"$base.status"
    echo 0 >$tracing/events/truth/enable
    echo "$(hits sends) $(hits receives)" >"$base.count"
    : >$tracing/kprobe_events
  done
}

observe
record all auto
for kind; do
  for probe in sock_send sock_recv tcp_rx; do
    record "$probe" "$kind"
  done
done
