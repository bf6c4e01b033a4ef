#!/usr/bin/env python3
"""The same traffic recorded three ways at once, and the same question asked of each recording.

    make bench-recordings                  analyze against tshark and perf script
    benches/analyze/recordings.py 500000   with so many requests to redis

A network namespace of our own has a redis server and its benchmark in it; `capture`, `tcpdump` and `perf record` watch
the same run. Then each question is put to the tools in turn, some rounds, two processors, reading the file included:

    connections  bytes of each TCP connection: analyze flows, tshark -z conv,tcp
    sends        calls and bytes of sends by process: analyze tcpsend, perf script | awk

The medians are compared only after the answers were: the same connections, the same number of calls.
"""

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
ROUNDS = 5
PORT = "6399"
WORKLOAD = f"""
redis-server --port {PORT} --save '' --appendonly no >/dev/null & server=$!
until redis-cli -p {PORT} ping >/dev/null 2>&1; do sleep 0.1; done
redis-benchmark -p {PORT} -t set,get -n "$1" -c 50 -q >/dev/null
kill $server; wait $server
"""
# comm: event: sk address, family, …, length:N, flags:…
SUMS = """match($0, /length = -?[0-9]+/) { n = substr($0, RSTART + 9, RLENGTH - 9) + 0
                                   if (n > 0) { calls[$1]++; bytes[$1] += n } }
          END { for (c in calls) print c, calls[c], bytes[c] }"""


def main():
    requests = sys.argv[1] if len(sys.argv) > 1 else "100000"
    missing = [tool for tool in ("redis-server", "redis-benchmark", "tcpdump", "tshark", "perf") if not shutil.which(tool)]
    if missing:
        sys.exit(f"bench: {', '.join(missing)} missing: apt-get install redis tcpdump tshark linux-perf")
    if os.environ.get("IN_NAMESPACE") is None:
        os.execvpe("unshare", ["unshare", "-n", sys.executable, *sys.argv], dict(os.environ, IN_NAMESPACE="1"))
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        record(Path(folder), requests)
        compare(Path(folder))


def record(folder, requests):
    pcap = subprocess.Popen(["tcpdump", "-q", "-i", "lo", "-s", "96", "-B", "65536", "-U", "-w", folder / "tcp.pcap"],
                            stderr=subprocess.PIPE, text=True)
    try:
        time.sleep(1)
        capture = [ROOT / "target/release/capture", "-o", folder / "trace.bin", "-g", "net"]
        perf = ["perf", "record", "-q", "-m", "4M", "-o", folder / "perf.data", "-e", "sock:sock_send_length"]
        subprocess.run([*capture, "--", *perf, "--", "sh", "-c", WORKLOAD, "sh", requests], check=True)
        time.sleep(1)
    finally:
        pcap.terminate()
        print(f"tcpdump: {', '.join(pcap.communicate()[1].splitlines()[-3:])}")
    for name in ("trace.bin", "tcp.pcap", "perf.data"):
        print(f"{name:10} {(folder / name).stat().st_size / 1e6:8.1f} MB")


def compare(folder):
    analyze = [ROOT / "target/release/analyze", "--threads", "2", folder / "trace.bin"]
    ours = dict(
        connections=[*analyze, "flows", "--format", "csv"],
        sends=[*analyze, "tcpsend", "--by", "comm", "--interval", "1h", "--format", "csv"],
    )
    theirs = dict(
        connections=["tshark", "-n", "-q", "-r", folder / "tcp.pcap", "-z", "conv,tcp"],
        sends=["sh", "-c", f"perf script -F comm,event,trace -i '{folder / 'perf.data'}' | awk '{SUMS}'"],
    )
    pairs, calls = connections(answer(ours["connections"])[0]), sends(answer(ours["sends"])[0])
    refused = conversations(answer(theirs["connections"])[0]) - pairs
    assert not pairs - conversations(answer(theirs["connections"])[0]), "connections that tshark has not seen"
    counted = dict((line.split()[0], int(line.split()[1])) for line in answer(theirs["sends"])[0].splitlines())
    assert calls == counted, f"sends by analyze {calls}, by perf {counted}"
    print(f"{len(pairs)} connections, {len(refused)} that were refused (tshark); {sum(calls.values())} sends")
    print(f"{'question':12} {'analyze s':>10} {'other s':>10} {'times faster':>13}")
    for question in ours:
        rounds = [(answer(ours[question])[1], answer(theirs[question])[1]) for _ in range(ROUNDS)]
        mine, other = (statistics.median(times) for times in zip(*rounds))
        print(f"{question:12} {mine:10.3f} {other:10.3f} {other / mine:13.1f}")


def answer(command):
    began = time.monotonic()
    done = subprocess.run(["taskset", "-c", "0,1", *command], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"bench: {command}: {done.stderr}")
    return done.stdout, time.monotonic() - began


def connections(csv):
    lines = [line.split(",") for line in csv.splitlines()]
    at = {name: position for position, name in enumerate(lines[0])}
    ends = [{f"{line[at['laddr']]}:{line[at['lport']]}", f"{line[at['raddr']]}:{line[at['rport']]}"} for line in lines[1:]]
    return {frozenset(end) for end in ends if not any(name.endswith(":0") for name in end)}  # no listeners


def conversations(text):
    return {frozenset({line.split()[0], line.split()[2]}) for line in text.splitlines() if "<->" in line}


def sends(csv):
    lines = [line.split(",") for line in csv.splitlines()]
    at = {name: position for position, name in enumerate(lines[0])}
    return {line[at["comm"]]: int(line[at["calls"]]) for line in lines[1:] if line[at["calls"]] != "0"}


main()
