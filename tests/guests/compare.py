#!/usr/bin/env python3
"""Traces recorded in guests against the truths beside them: kernel x probe x attach kind, right, wrong or not there.

    compare.py ANALYZE RESULTS_DIR KERNEL...

RESULTS_DIR/KERNEL holds what inside.sh left. "Not there" is an attach kind that capture refused with a reason; where
that kernel is known to have it (see `expected`), the refusal is as wrong as a wrong number. Exit status 1 if anything
is wrong.
"""

import json
import pathlib
import subprocess
import sys

RIGHT, WRONG, NOT_THERE, NOTHING = "right", "WRONG", "not there", "-"

# ---- what the reports are called, and their columns: the only things here that know `analyze` ----


def report(analyze, trace, name):
    """The rows of one report."""
    result = subprocess.run([analyze, str(trace), name, "--format", "json"], capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise Wrong(f"analyze {name} ended with {result.returncode}: {last_line(result.stderr)}")
    return json.loads(result.stdout)["rows"]


def sends_seen(analyze, trace):
    """(calls, bytes) of all of the trace."""
    rows = report(analyze, trace, "tcpsend")
    return sum(row["calls"] for row in rows), sum(row["bytes"] or 0 for row in rows)


def received_seen(analyze, trace):
    """Bytes that were received, by all sockets."""
    return sum(row["rx_bytes"] or 0 for row in report(analyze, trace, "tcptop"))


def responses_seen(analyze, trace, lport):
    """(n, min_us, max_us) of the response latency of the socket with this local port."""
    rows = [row for row in report(analyze, trace, "tcplat")
            if row["metric"] == "response" and row["lport"] == lport]
    if not rows:
        return 0, None, None
    return sum(row["n"] for row in rows), min(row["min_us"] for row in rows), max(row["max_us"] for row in rows)


def execs_seen(analyze, trace):
    """{pid: arguments as one text}"""
    return {row["pid"]: row["args"] for row in report(analyze, trace, "execsnoop")}


def exits_seen(analyze, trace):
    """{pid: (exit code, signal)}"""
    return {row["pid"]: (row["exit_code"], row["signal"]) for row in report(analyze, trace, "exitsnoop")}


# ---- what the truth says ----


class Wrong(Exception):
    """A difference between trace and truth."""


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


def total(truth, direction, *names):
    return sum(end[direction][name] for end in ends(truth) for name in names)


def spliced_bytes(truth):
    return sum(end["send"]["spliced"]["bytes"] for end in ends(truth))


# ---- the checks: (analyze, kernel version, trace, truth) -> None, or raise Wrong ----


def equal(what, seen, told):
    if seen != told:
        raise Wrong(f"{what}: analyze says {seen}, the truth is {told}")


def check_sends(analyze, version, trace, truth):
    calls, count = sends_seen(analyze, trace)
    spliced = spliced_bytes(truth)
    if not spliced:
        equal("send calls", calls, total(truth, "send", "calls", "errors"))
        equal("bytes sent", count, total(truth, "send", "bytes"))
    elif version >= (6, 5):  # before, spliced pages bypass tcp_sendmsg
        equal("bytes sent", count, total(truth, "send", "bytes") + spliced)


def check_receives(analyze, _version, trace, truth):
    equal("bytes received", received_seen(analyze, trace), total(truth, "recv", "bytes"))


def check_responses(analyze, _version, trace, truth):
    count, least, most = responses_seen(analyze, trace, truth["client"]["lport"])
    equal("responses", count, truth["turns"])
    held, felt = truth["server"]["held_summary"]["min_ns"], truth["response_summary"]["max_ns"]
    if least * 1000 < held - 1000:
        raise Wrong(f"a response after {least} us: the server held each back for at least {held} ns")
    if most * 1000 > felt + 1000:
        raise Wrong(f"a response after {most} us: the client waited at most {felt} ns")


def check_execs(analyze, _version, trace, truth):
    execs, exits = execs_seen(analyze, trace), exits_seen(analyze, trace)
    for run in truth["runs"]:
        equal(f"arguments of {run['pid']}", execs.get(run["pid"]), " ".join(run["argv"]))
        code = 0 if run["exit_code"] is None else run["exit_code"]
        equal(f"end of {run['pid']}", exits.get(run["pid"]), (code, run["signal"]))


# probe -> [(commands of the truth that it is checked on, the check)]
CHECKS = {
    "sock_send": (("sends", "twothreads", "connects", "odd"), check_sends),
    "sock_recv": (("sends", "twothreads", "connects", "odd"), check_receives),
    "tcp_rx": (("pingpong",), check_responses),
    "proc": (("execs",), check_execs),
}


def expected(version, probe, kind):
    """Is this attach kind known to be there?"""
    if kind == "tracepoint" and probe in ("sock_send", "sock_recv"):
        return version >= (6, 3)
    return True


# ---- one recording, one cell, one table ----


def examine(analyze, version, base, probe, kind):
    """One recording: (verdict, detail)."""
    status = int(base.with_name(base.name + ".status").read_text())
    told = base.with_name(base.name + ".json")
    if not told.exists():
        reason = last_line(base.with_name(base.name + ".stderr").read_text())
        if kind != "auto" and status == 125 and reason and not expected(version, probe, kind):
            return NOT_THERE, reason
        return WRONG, f"capture ended with {status}: {reason}"
    truth = json.loads(told.read_text())
    commands, check = CHECKS[probe]
    if "skipped" in truth or truth["command"] not in commands:
        return NOTHING, truth.get("skipped", "")
    if status != 0:
        return WRONG, f"capture ended with {status}"
    try:
        check(analyze, version, base.with_name(base.name + ".bin"), truth)
    except (Wrong, KeyError, TypeError, json.JSONDecodeError) as error:
        return WRONG, str(error) if isinstance(error, Wrong) else f"unexpected output: {error!r}"
    return RIGHT, ""


def observed(directory):
    """The truth itself against the kernel's own kprobe events."""
    verdicts, details = [], []
    for count in sorted(directory.glob("observer.kprobe.*.count")):
        told = count.with_suffix(".json")
        if count.with_suffix(".status").read_text().strip() != "0" or not told.exists():
            verdicts.append(WRONG)
            details.append(f"{count.stem}: {last_line(count.with_suffix('.stderr').read_text())}")
            continue
        truth = json.loads(told.read_text())
        sends, receives = map(int, count.read_text().split())
        want = total(truth, "send", "calls", "errors"), total(truth, "recv", "calls", "errors")
        verdicts.append(RIGHT if (sends, receives) == want else WRONG)
        if verdicts[-1] == WRONG:
            details.append(f"{count.stem}: sends and receives counted {sends, receives}, told {want}")
    return summed_up(verdicts), len(verdicts), details


def summed_up(verdicts):
    """The verdict of a cell: the worst of its recordings."""
    for verdict in WRONG, NOT_THERE, RIGHT:
        if verdict in verdicts:
            return verdict
    return NOTHING


def cells(analyze, directory, kernel):
    """Every (probe, kind) of one kernel: {(probe, kind): (verdict, recordings)}, and the details."""
    version = tuple(int(part) for part in kernel.split("."))
    found, details = {}, []
    for status in sorted(directory.glob("*.status")):
        recorded, kind, case = status.name.removesuffix(".status").split(".")
        if recorded == "observer":
            continue
        for probe in CHECKS if recorded == "all" else [recorded]:
            verdict, detail = examine(analyze, version, status.with_name(status.stem), probe, kind)
            found.setdefault((probe, kind), []).append(verdict)
            if detail and (verdict != NOTHING or probe == recorded):
                details.append(f"{kernel} {probe} {kind} {case}: {verdict}: {detail}")
    judged = {key: [verdict for verdict in verdicts if verdict != NOTHING] for key, verdicts in found.items()}
    return {key: (summed_up(verdicts), len(verdicts)) for key, verdicts in judged.items()}, details


def print_table(table, kernels):
    kinds = list(dict.fromkeys(kind for _, _, kind in table))
    probes = list(dict.fromkeys([*CHECKS, *(probe for _, probe, _ in table)]))
    print(f"{'kernel':8}{'probe':18}" + "".join(f"{kind:16}" for kind in kinds))
    for kernel in kernels:
        for probe in probes:
            row = [table.get((kernel, probe, kind), (NOTHING, 0)) for kind in kinds]
            texts = [f"{verdict} ({count})" if count else verdict for verdict, count in row]
            print(f"{kernel:8}{probe:18}" + "".join(f"{text:16}" for text in texts).rstrip())
    print("\n(n): so many recordings were compared")


def main():
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    analyze, results, kernels = str(pathlib.Path(sys.argv[1]).resolve()), pathlib.Path(sys.argv[2]), sys.argv[3:]
    table, details = {}, []
    for kernel in kernels:
        found, problems = cells(analyze, results / kernel, kernel)
        verdict, count, doubts = observed(results / kernel)
        table.update({(kernel, *key): cell for key, cell in found.items()})
        table[kernel, "the truth itself", "kprobe events"] = verdict, count
        details += problems + [f"{kernel} {doubt}" for doubt in doubts]
        for probe in CHECKS:  # no news is bad news
            if table.get((kernel, probe, "auto"), (NOTHING, 0))[1] == 0:
                table[kernel, probe, "auto"] = WRONG, 0
                details.append(f"{kernel} {probe} auto: {WRONG}: nothing was recorded that could be compared")
    print_table(table, kernels)
    print("\n".join(details))
    sys.exit(any(verdict == WRONG for verdict, _ in table.values()))


if __name__ == "__main__":
    main()
