#!/usr/bin/env python3
"""Traces recorded in guests against the truths beside them: kernel x probe x attach kind, right, wrong or not there.

    compare.py ANALYZE RESULTS_DIR KERNEL...

RESULTS_DIR/KERNEL holds what inside.sh left. "Not there" is an attach kind that capture refused with a reason; where
that kernel is known to have it (see `expected`), the refusal is as wrong as a wrong number. Rows are read by
tests/independent_reader.py, which knows nothing of our code; sends and responses are asked of `analyze` as well. Where
the kernel says that it missed hits of a probe, up to so many rows may be missing. Exit status 1 if anything is wrong.
"""

import collections
import json
import pathlib
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import independent_reader  # noqa: E402

RIGHT, WRONG, NOT_THERE, NOTHING = "right", "WRONG", "not there", "-"
COMPLETE, INCOMPLETE = 0, 3  # exit statuses of `analyze`
PEEK = 2
LISTENS = 1  # `side` of a sock that was accepted
SPLICE_SENDS = 6, 5  # from here on spliced pages go through tcp_sendmsg
# A kprobe program that interrupts another one is skipped. Since this version the kernel counts that; before, one of some
# ten thousand hits was seen to be gone, in one of many runs.
COUNTS_SKIPPED = 6, 7
UNCOUNTED = 2
LONGEST = 300_000  # bytes of one call or segment


class Wrong(Exception):
    """A difference between trace and truth."""


# ---- the trace ----


class Recording:
    """One trace, its workloads' truths, and what they should agree on."""

    def __init__(self, analyze, base, version, kind, truths):
        self.analyze, self.version, self.kind, self.truths = analyze, version, kind, truths
        self.path = base.with_name(base.name + ".bin")
        trace = independent_reader.Trace(self.path.read_bytes())
        self.tables = collections.defaultdict(list)
        for table, columns, rows in trace.batches():
            names = [table["columns"][index]["name"] for index in columns]
            shown = [independent_reader.show(values, table["columns"][at]) for at, values in columns.items()]
            found = zip(*shown) if shown else [()] * rows
            self.tables[table["name"]] += [dict(zip(names, row)) for row in found]
        if trace.damage or not trace.ended:
            raise Wrong(f"damaged: {trace.damage[:1] or 'no end'}")
        self.numbers = {table["name"]: table["number"] for table in trace.tables}
        self.absent = {(t["name"], c["name"]) for t in trace.tables for c in t["columns"] if c.get("absent")}
        self.probes = {row["name"]: row for row in self.tables["probe"]}
        self.socks = {}
        for row in sorted(self.tables["sock"], key=lambda row: row["ts"]):  # the later row counts
            self.socks[row["sock"]] = row
        self.ends = [end for truth in truths.values() for end in ends(truth)]

    def missed(self, probe):
        """Hits that the kernel did not run the probe's programs for: those that it says, and some that it may keep to itself."""
        uncounted = self.probes[probe]["kind"] == "kprobe" and self.version < COUNTS_SKIPPED
        return self.probes[probe]["missed"] + (UNCOUNTED if uncounted else 0)

    def ports(self, row):
        sock = self.socks.get(row["sock"])
        if sock is None:
            raise Wrong(f"socket {row['sock']} is nowhere defined")
        return sock["lport"], sock["rport"]

    def report(self, *words):
        """The rows of one report."""
        command = [self.analyze, str(self.path), *words, "--interval", "all", "--format", "json"]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        missed = any(row["missed"] for row in self.probes.values())
        if result.returncode not in ((COMPLETE, INCOMPLETE) if missed else (COMPLETE,)):
            raise Wrong(f"analyze {words[0]} ended with {result.returncode}: {last_line(result.stderr)}")
        return json.loads(result.stdout)["rows"]


# ---- the truth ----


def last_line(text):
    """Of what a program said on its way out."""
    return text.strip().rpartition("\n")[2][-300:]


def ends(value):
    """Every end of every connection in a truth, wherever it stands."""
    if isinstance(value, dict):
        if "send" in value and "recv" in value:
            yield value
        else:
            for inner in value.values():
                yield from ends(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from ends(inner)


def per_user(recording, tell):
    """{(thread, local port, remote port): tell(end)}, ends without anything to tell left out."""
    told = collections.Counter()
    for end in recording.ends:
        told[end["tid"], end["lport"], end["rport"]] += tell(end)
    return +told


def sent(end):
    """Bytes that left by any call."""
    return end["send"]["bytes"] + end["send"]["spliced"]["bytes"]


# ---- checks: recording -> None, or raise Wrong ----


def equal(what, seen, told, missed=0):
    """Counters per key; what the kernel missed may be missing."""
    short = 0
    for key in sorted({*seen, *told}):
        if seen[key] > told[key] or (seen[key] < told[key] and not missed):
            raise Wrong(f"{what} of {key}: {seen[key]}, the truth is {told[key]}")
        short += told[key] - seen[key]
    if short > missed * (LONGEST if "bytes" in what else 1):
        raise Wrong(f"{what}: {short} are missing, the kernel missed {missed}")


def check_sends(recording):
    """Calls and bytes per thread and connection, by our reader and by the other; sequence numbers; latencies."""
    rows, missed = recording.tables["sock_send"], recording.missed("sock_send")
    splices = {(end["lport"], end["rport"]) for end in recording.ends if end["send"]["spliced"]["syscalls"]}
    calls, count = collections.Counter(), collections.Counter()
    for row in rows:
        key = row["tid"], *recording.ports(row)
        calls[key] += 0 if key[1:] in splices else 1  # how many calls a splice makes is the kernel's business
        count[key] += max(0, row["ret"])
    bytes_of = sent if recording.version >= SPLICE_SENDS else lambda end: end["send"]["bytes"]
    told = per_user(recording, lambda end: end["send"]["calls"] + end["send"]["errors"])
    told = collections.Counter({key: n for key, n in told.items() if key[1:] not in splices})
    equal("send calls", +calls, told, missed)
    equal("bytes sent", +count, per_user(recording, bytes_of), missed)
    said = collections.Counter()
    for row in recording.report("tcpsend", "--by", "tid,lport,rport"):
        said[row["tid"], row["lport"], row["rport"]] += row["bytes"]
    equal("bytes sent, as analyze has it,", +said, +count)
    if not missed:
        check_sequence(rows)
    check_latency(recording, "sock_send")
    wrong = [row for row in rows if row.get("requested") is not None and row["ret"] > row["requested"]]
    if wrong:
        raise Wrong(f"more was sent than requested: {wrong[0]}")
    check_owners(recording, rows)


def check_sequence(rows):
    """Exact ranges of sends on one socket lie end to end, whoever wrote them."""
    streams = collections.defaultdict(list)
    for row in rows:
        if row["ret"] > 0:
            streams[row["sock"]].append(row)
    for sock, sends in streams.items():
        if not all(send["exact"] for send in sends):
            continue
        first = sends[0]["seq"]
        sends.sort(key=lambda send: distance(first, send["seq"]))
        for one, other in zip(sends, sends[1:]):
            if (one["seq"] + one["ret"]) % 2**32 != other["seq"]:
                raise Wrong(f"socket {sock}: {other['seq']} follows {one['seq']} + {one['ret']}")


def distance(start, seq):
    return (seq - start + 2**31) % 2**32 - 2**31


def check_latency(recording, table):
    """A latency in every row, if this way to attach has it at all; preemption costs the note of a call's start."""
    rows = recording.tables[table]
    if recording.probes[table]["kind"] == "tracepoint":  # its start is not reached by calls that send nothing
        rows = [row for row in rows if row["ret"] > 0]
    without = sum(not row.get("latency") for row in rows)
    lacks = (table, "latency") in recording.absent
    if without != len(rows) if lacks else without > len(rows) // 20:
        raise Wrong(f"{without} of {len(rows)} rows have no latency, {'all' if lacks else 'none'} should")


def check_owners(recording, rows):
    """Addresses of both sides and the owning process, also of sockets that are long closed."""
    told = collections.defaultdict(list)
    for end in recording.ends:
        told[end["lport"], end["rport"]].append(end)
    for sock in {row["sock"] for row in rows}:
        row = recording.socks[sock]
        candidates = told[row["lport"], row["rport"]]
        addresses = [(bare(end["laddr"]), bare(end["raddr"])) for end in candidates]
        if (row["laddr"], row["raddr"]) not in addresses:
            raise Wrong(f"socket {row}: the truth has {addresses}")
        if row["owner"] not in [end["pid"] for end in candidates]:
            raise Wrong(f"socket {row}: its users are {[end['pid'] for end in candidates]}")


def bare(address):
    return address.removeprefix("::ffff:")


def check_receives(recording):
    """Calls, bytes and peeks per thread and connection; latencies."""
    rows, missed = recording.tables["sock_recv"], recording.missed("sock_recv")
    calls, count, peeks = collections.Counter(), collections.Counter(), collections.Counter()
    for row in rows:
        key = row["tid"], *recording.ports(row)
        calls[key] += 1
        (peeks if row["flags"] & PEEK else count)[key] += max(0, row["ret"])
    equal("receive calls", calls, per_user(recording, lambda end: end["recv"]["calls"] + end["recv"]["errors"]), missed)
    equal("bytes received", +count, per_user(recording, lambda end: end["recv"]["bytes"]), missed)
    equal("bytes peeked at", +peeks, per_user(recording, lambda end: end["recv"]["peek_bytes"]), missed)
    check_latency(recording, "sock_recv")
    check_owners(recording, rows)


def check_segments(recording):
    """Every byte that was sent to a socket is in a segment of that socket."""
    streams = collections.defaultdict(list)
    for row in recording.tables["tcp_rx"]:
        if row["len"]:
            streams[row["sock"], *recording.ports(row)].append((row["seq"], row["len"]))
    seen, holes = collections.Counter(), 0
    for (_, *ports), segments in streams.items():
        ranges = sorted((distance(segments[0][0], seq), length) for seq, length in segments)
        covered, reached = 0, ranges[0][0]
        for start, length in ranges:
            holes += max(0, start - reached)
            covered += max(0, start + length - max(start, reached))
            reached = max(reached, start + length)
        seen[tuple(ports)] += covered
    told = collections.Counter()
    for end in recording.ends:
        told[end["rport"], end["lport"]] += sent(end)
    if recording.probes["tcp_rx"]["kind"] == "tracepoint":  # sees neither a handshake's nor a half-closed socket's data
        told = collections.Counter({key: min(n, seen[key]) for key, n in told.items()})
    missed = recording.missed("tcp_rx") + recording.missed("tcp_state")  # by its state a new socket is known as wanted
    equal("bytes that arrived at", seen, +told, missed)
    if holes and not missed:
        raise Wrong(f"{holes} bytes in the middle of streams did not arrive")
    check_responses(recording)


def check_responses(recording):
    """Response latencies of the ping-pongs: as many as turns, and between what server and client measured."""
    if ("sock_send", "latency") in recording.absent or recording.missed("sock_send") or recording.missed("tcp_rx"):
        return
    rows = recording.report("tcplat", "--metric", "response", "--by", "lport,rport")
    found = {(row["lport"], row["rport"]): row for row in rows}
    for truth in recording.truths.values():
        if truth["command"] != "pingpong":
            continue
        client = truth["client"]["lport"], truth["client"]["rport"]
        row = found.get(client)
        unknown = sum(not send["latency"] and recording.ports(send) == client for send in recording.tables["sock_send"])
        if row is None or not truth["turns"] - unknown <= row["n"] <= truth["turns"]:
            raise Wrong(f"responses to {client}: {row and row['n']}, the truth is {truth['turns']}")
        held, felt = truth["server"]["held_summary"]["min_ns"], truth["response_summary"]["max_ns"]
        if row["min_us"] * 1000 < held - 1000:
            raise Wrong(f"a response after {row['min_us']} us: the server held each back for at least {held} ns")
        if row["max_us"] * 1000 > felt + 1000:
            raise Wrong(f"a response after {row['max_us']} us: the client waited at most {felt} ns")


def check_accepts(recording):
    """One row for each connection, with its descriptor where this way to attach has it."""
    rows = recording.tables["sock_accept"]
    seen = collections.Counter(tuple(sorted(recording.ports(row))) for row in rows)
    told = collections.Counter()
    for ports, generation in {
        (tuple(sorted((end["lport"], end["rport"]))), end.get("generation", 0)) for end in recording.ends
    }:
        told[ports] += 1
    equal("accepts on ports", seen, told, recording.missed("sock_accept"))
    for row in rows:
        if recording.socks[row["sock"]]["side"] != LISTENS:
            raise Wrong(f"an accepted socket is not the server's: {recording.socks[row['sock']]}")
        lacks = ("sock_accept", "fd") in recording.absent
        if lacks != (row.get("fd") is None):
            raise Wrong(f"the descriptor is {row.get('fd')}")


def check_processes(recording):
    """Arguments and ends of every process that was started."""
    missed = recording.missed("process_exec") + recording.missed("process_exit")
    done = [row for row in recording.tables["process_exec"] if row["ret"] == 0]
    execs = {row["tid"]: row["args"].rstrip("\0").split("\0") for row in done}
    exits = {row["tid"]: (row["code"], row["signal"]) for row in recording.tables["process_exit"]}
    for truth in recording.truths.values():
        for run in truth.get("runs", []):
            code = 0 if run["exit_code"] is None else run["exit_code"]
            pid, end = run["pid"], (code, run["signal"] or 0)
            missed -= (pid not in execs) + (pid not in exits)
            if execs.get(pid, run["argv"]) != run["argv"] or exits.get(pid, end) != end or missed < 0:
                raise Wrong(f"process {pid}: {execs.get(pid)}, {exits.get(pid)}, the truth is {run['argv']}, {end}")


def check_failures(recording):
    """Execs that failed, with what was to be run and why it was not."""
    truths = [truth["missing"] for truth in recording.truths.values() if "missing" in truth]
    want = {(truth["path"], -truth["errno"]): truth["count"] for truth in truths if truth["count"]}
    if not want:
        raise Wrong("the workload has no exec that fails")
    failed = [row for row in recording.tables["process_exec"] if row["ret"] < 0]
    found = collections.Counter((row["file"], row["ret"]) for row in failed)
    # Of the workload alone: a shell that looks a command up along its path fails too.
    equal("failed execs", {key: found[key] for key in want}, want, recording.missed("process_exec"))
    if any(row["args"].rstrip("\0") != row["file"] for row in failed if (row["file"], row["ret"]) in want):
        raise Wrong("a failed exec has other arguments than its caller gave")


def check_books(recording):
    """What the ledger says is stored is there, and nothing was lost."""
    stored, lost = collections.Counter(), collections.Counter()
    for row in recording.tables["ledger"]:
        stored[row["table"]] += row["stored"]
        lost[row["table"]] += row["ring_full"] + row["state_full"] + row["discarded"]
    for table in "sock_send", "sock_recv", "sock_accept", "tcp_rx", "tcp_state", "process_exec", "process_exit":
        number = recording.numbers[table]
        if stored[number] != len(recording.tables[table]) or lost[number]:
            raise Wrong(f"{table}: {len(recording.tables[table])} rows, {stored[number]} stored, {lost[number]} lost")


CHECKS = {
    "sock_send": check_sends,
    "sock_recv": check_receives,
    "sock_accept": check_accepts,
    "tcp_rx": check_segments,
    "proc": check_processes,
    "exec_failed": check_failures,
    "ledger": check_books,
}
FORCED = "sock_send", "sock_recv", "sock_accept", "tcp_rx", "exec_failed"  # as inside.sh forces them


def expected(version, probe, kind):
    """Is this attach kind known to be there?"""
    if kind == "tracepoint" and probe in ("sock_send", "sock_recv"):
        return version >= (6, 3)
    if kind == "fentry" and probe == "exec_failed":
        return version >= (6, 12)  # 5.10 does not let it read the caller's registers; between, nobody has tried
    return True


# ---- one recording, one kernel, one table ----


def truths_of(directory, kind):
    """{case: what its truth says}, without those that say why they skipped."""
    told = {path.name.split(".")[1]: json.loads(path.read_text()) for path in directory.glob(f"{kind}.*.json")}
    return {case: truth for case, truth in told.items() if "skipped" not in truth}


def examine(analyze, directory, version, kind):
    """One recording: {probe: (verdict, detail)}."""
    base = directory / kind
    found = {}
    for refused in directory.glob(f"{kind}.*.refused"):
        probe = refused.name.split(".")[1]
        verdict = WRONG if expected(version, probe, kind) else NOT_THERE
        found[probe] = verdict, last_line(refused.read_text()).partition("not possible here: ")[2]
    probes = [probe for probe in (CHECKS if kind == "auto" else [*FORCED, "ledger"]) if probe not in found]
    status = base.with_name(f"{kind}.status").read_text().strip()
    if status != "0":
        said = last_line(base.with_name(f"{kind}.stderr").read_text())
        return found | {probe: (WRONG, f"capture ended with {status}: {said}") for probe in probes}
    try:
        recording = Recording(analyze, base, version, kind, truths_of(directory, kind))
    except (Wrong, independent_reader.Unusable, OSError) as error:
        return found | {probe: (WRONG, str(error)) for probe in probes}
    for probe in probes:
        try:
            if kind != "auto" and probe in FORCED and recording.probes[probe]["kind"] != kind:
                raise Wrong(f"attached as {recording.probes[probe]['kind']}")
            CHECKS[probe](recording)
            found[probe] = RIGHT, ""
        except (Wrong, KeyError, TypeError, json.JSONDecodeError) as error:
            found[probe] = WRONG, str(error) if isinstance(error, Wrong) else f"unexpected content: {error!r}"
    return found


def observed(directory):
    """The truth itself against the kernel's own kprobe events."""
    if not (directory / "observer.count").exists():
        return NOTHING, "the kernel has no kprobe events"
    counted = tuple(map(int, (directory / "observer.count").read_text().split()))
    told = [end for truth in truths_of(directory, "observer").values() for end in ends(truth)]
    want = tuple(sum(end[way]["calls"] + end[way]["errors"] for end in told) for way in ("send", "recv"))
    return (RIGHT, "") if counted == want else (WRONG, f"sends and receives counted {counted}, told {want}")


def print_table(table, kernels):
    kinds = list(dict.fromkeys(kind for _, _, kind in table))
    print(f"{'kernel':8}{'probe':18}" + "".join(f"{kind:15}" for kind in kinds))
    for kernel in kernels:
        for probe in [*CHECKS, "the truth itself"]:
            row = [table.get((kernel, probe, kind), NOTHING) for kind in kinds]
            print(f"{kernel:8}{probe:18}" + "".join(f"{verdict:15}" for verdict in row).rstrip())


def main():
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    analyze, results, kernels = str(pathlib.Path(sys.argv[1]).resolve()), pathlib.Path(sys.argv[2]), sys.argv[3:]
    table, details = {}, []
    for kernel in kernels:
        version, directory = tuple(int(part) for part in kernel.split(".")), results / kernel
        recorded = [path.name.split(".")[0] for path in directory.glob("*.status")]
        kinds = sorted(recorded, key=lambda kind: (kind != "auto", kind))
        found = {}
        for kind in kinds:
            cells = examine(analyze, directory, version, kind)
            found.update({(probe, kind): cell for probe, cell in cells.items()})
        if "auto" not in kinds:  # no news is bad news
            found["sock_send", "auto"] = WRONG, "nothing was recorded"
        found["the truth itself", "kprobe events"] = observed(directory)
        for (probe, kind), (verdict, detail) in found.items():
            table[kernel, probe, kind] = verdict
            if detail:
                details.append(f"{kernel} {probe} {kind}: {verdict}: {detail}")
    print_table(table, kernels)
    print("\n".join(["", *details]) if details else "")
    sys.exit(WRONG in table.values())


if __name__ == "__main__":
    main()
