#!/usr/bin/env python3
"""The truth workload under an independent observer: do its own counts equal what bpftrace sees of the same run?

    observe.py TRUTH [COMMAND...]     all commands with all families by default

Needs root, bpftrace, and a kernel with the tracepoints sock:sock_send_length and sock:sock_recv_length (6.3).
Every end of every connection is compared: system calls that succeeded, that failed, bytes, peeks. The observer
looks at TRUTH and its descendants only. Exit status 0: equal throughout, 1: not, 77: cannot be had here.
"""

import collections
import json
import os
import shutil
import subprocess
import sys
import tempfile

COMMANDS = [
    "sends --count 500 --size 1000",
    "sends --count 20 --size 1000000",
    "sends --count 50 --size 0",
    "pingpong --count 200 --size 100 --reply 3000",
    "pingpong --count 20 --size 100 --reply 100 --delay-ms 5",
    "twothreads --count 300 --size 1000",
    "connects --count 50",
    "odd",
]
FAMILIES = ["v4", "v6", "mapped"]

# One line per call: direction, pid, socket, local port, remote port (network order), flags, result.
PROGRAM = """
tracepoint:sched:sched_process_fork /@ours[(uint64)args->parent_pid] || args->parent_pid == cpid/
{ @ours[(uint64)args->child_pid] = 1; }
tracepoint:sock:sock_send_length /args->protocol == 6 && (@ours[tid] || pid == cpid)/
{ $sk = (struct sock *)args->sk;
  printf("send %d %lu %d %d %d %d\\n", pid, args->sk, $sk->__sk_common.skc_num, $sk->__sk_common.skc_dport, args->flags, args->ret); }
tracepoint:sock:sock_recv_length /args->protocol == 6 && (@ours[tid] || pid == cpid)/
{ $sk = (struct sock *)args->sk;
  printf("recv %d %lu %d %d %d %d\\n", pid, args->sk, $sk->__sk_common.skc_num, $sk->__sk_common.skc_dport, args->flags, args->ret); }
END { clear(@ours); }
"""
MSG_PEEK = 2


def ends(value):
    """Every end in a truth: who sent and received what, wherever it stands in the JSON."""
    if isinstance(value, dict):
        if "send" in value and "recv" in value:
            yield value
        else:
            for inner in value.values():
                yield from ends(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from ends(inner)


def told(truth):
    """The counts per (pid, local port, remote port), as the workload tells them."""
    counts = collections.Counter()
    for end in ends(truth):
        key = end["pid"], end["lport"], end["rport"]
        for direction in "send", "recv":
            for name in "calls", "bytes", "errors":
                counts[*key, direction, name] += end[direction][name]
        counts[*key, "recv", "peeks"] += end["recv"]["peeks"]
        # One sendfile or splice is as many calls as the kernel likes; their bytes must be there all the same.
        if end["send"]["spliced"]["bytes"]:
            counts[*key, "send", "bytes"] += end["send"]["spliced"]["bytes"]
            counts[*key, "send", "calls"] = None
    return {key: count for key, count in counts.items() if count != 0}


def seen(lines, ends_told):
    """The same, as the observer saw them. Once a connection is over, by a reset or by both farewells, the kernel says
    0 for the local port of a socket that is still open: then it is the port that this socket had before, or else, if
    no call was seen before, that of the end that was told with this process and this remote port."""
    lports = {(pid, rport): lport for pid, lport, rport in ends_told}
    known = {}
    counts = collections.Counter()
    for line in lines:
        direction, *numbers = line.split()
        pid, sock, lport, rport, flags, result = map(int, numbers)
        rport = int.from_bytes(rport.to_bytes(2, "little"), "big")
        if lport:
            known[pid, sock, rport] = lport
        else:
            lport = known.get((pid, sock, rport)) or lports.get((pid, rport), 0)
        key = pid, lport, rport, direction
        if result < 0:
            counts[*key, "errors"] += 1
            continue
        peek = direction == "recv" and flags & MSG_PEEK
        counts[*key, "calls"] += 1
        counts[*key, "peeks"] += bool(peek)
        counts[*key, "bytes"] += 0 if peek else result
    return {key: count for key, count in counts.items() if count != 0}


def run(truth, command):
    """One run: (what it told, what was seen)."""
    with tempfile.TemporaryDirectory() as directory:
        output = os.path.join(directory, "truth.json")
        observer = subprocess.run(
            ["timeout", "60", "bpftrace", "-B", "full", "-q", "-e", PROGRAM, "-c", f"{truth} {command} --output {output}"],
            capture_output=True, text=True, check=False, env={**os.environ, "BPFTRACE_PERF_RB_PAGES": "1024"})
        if observer.returncode != 0 or "Lost" in observer.stderr + observer.stdout:
            sys.exit(f"{command}: {observer.stdout[-2000:]}{observer.stderr}")
        lines = [line for line in observer.stdout.splitlines() if line.startswith(("send ", "recv "))]
        with open(output, encoding="utf-8") as file:
            return json.load(file), lines


def compare(command, truth, lines):
    """Prints one line for the run; True if all is equal."""
    if "skipped" in truth:
        print(f"skipped  {command}: {truth['skipped']}")
        return True
    want = told(truth)
    got = seen(lines, {(end["pid"], end["lport"], end["rport"]) for end in ends(truth)})
    for key in [key for key, count in want.items() if count is None]:
        print(f"         {command}: {got.get(key)} calls of sendmsg for spliced data (no claim)")
        want[key] = got.get(key)
    wrong = sorted(key for key in want.keys() | got.keys() if want.get(key) != got.get(key))
    sends = sum(count for key, count in got.items() if key[3:] == ("send", "calls"))
    receives = sum(count for key, count in got.items() if key[3:] == ("recv", "calls"))
    sent = sum(count for key, count in got.items() if key[3:] == ("send", "bytes"))
    errors = sum(count for key, count in got.items() if key[4] == "errors")
    print(f"{'WRONG' if wrong else 'equal':8} {command}: {sends} sends, {sent} bytes, {receives} receives, "
          f"{errors} errors")
    for key in wrong:
        print(f"         pid {key[0]}, {key[1]} -> {key[2]}, {key[3]} {key[4]}: "
              f"told {want.get(key, 0)}, seen {got.get(key, 0)}")
    return not wrong


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    missing = None
    if not shutil.which("bpftrace"):
        missing = "bpftrace is not installed"
    elif os.geteuid() != 0:
        missing = "not root"
    elif not any(os.path.exists(f"/sys/kernel/{fs}/events/sock/sock_send_length") for fs in ("tracing", "debug/tracing")):
        missing = "this kernel has no sock:sock_send_length"
    if missing:
        print(f"SKIP: {missing}", file=sys.stderr)
        sys.exit(77)
    truth = os.path.abspath(sys.argv[1])
    commands = sys.argv[2:] or [f"{command} --family {family}" for command in COMMANDS for family in FAMILIES]
    results = [compare(command, *run(truth, command)) for command in commands]
    sys.exit(0 if all(results) else 1)


if __name__ == "__main__":
    main()
