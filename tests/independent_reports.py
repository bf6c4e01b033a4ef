#!/usr/bin/env python3
"""Some reports worked out a second time, on top of tests/independent_reader.py and with none of tapedeck's code.

    independent_reports.py TRACE

Prints a JSON list of {"args": a command line of `analyze`, "rows": what its result must hold}. Each row has the columns
by which the report groups and some that it adds up; `analyze` may have more columns, but no other rows. A trace that lacks a
table is not asked about it.

Names are found as the format says: of an id's rows in an identity table, ordered by time, the last one that is not later than the
event says what a task was then (the first one, where all are later); of a socket always the last one.
"""

import bisect
import collections
import json
import pathlib
import sys

import independent_reader

PEEK = 2
SYN_SENT = 2


def rows_of(trace, name):
    """The rows of a table, each a dictionary."""
    numbers = [table["number"] for table in trace.tables if table["name"] == name]
    for table, columns, rows in trace.batches(numbers[0]) if numbers else []:
        names = [table["columns"][at]["name"] for at in columns]
        shown = [independent_reader.show(values, table["columns"][at]) for at, values in columns.items()]
        yield from (dict(zip(names, row)) for row in (zip(*shown) if shown else [()] * rows))


class Identity:
    """An identity table: what an id was at a moment."""

    def __init__(self, trace, name, key):
        self.versions = collections.defaultdict(list)
        for at, row in enumerate(rows_of(trace, name)):
            self.versions[row[key]].append((row["ts"], at, row))
        for versions in self.versions.values():
            versions.sort(key=lambda version: version[:2])

    def at(self, key, moment):
        versions = self.versions.get(key)
        if not versions:
            return {}
        later = bisect.bisect_right(versions, moment, key=lambda version: version[0])
        return versions[max(later - 1, 0)][2]

    def last(self, key):
        versions = self.versions.get(key)
        return versions[-1][2] if versions else {}


def grouped(rows, keys, sums):
    """Per distinct `keys` the sum of each of `sums`, {column: number of a row}."""
    groups = collections.defaultdict(lambda: dict.fromkeys(sums, 0))
    for row in rows:
        group = groups[tuple(row.get(key) for key in keys)]
        for column, number in sums.items():
            group[column] += number(row)
    return [dict(zip(keys, key)) | group for key, group in groups.items()]


def reports(trace):
    tasks, socks = Identity(trace, "task", "tid"), Identity(trace, "sock", "sock")

    def named(table):
        for row in rows_of(trace, table):
            task = tasks.at(row.get("tid", row.get("tgid")), row["ts"])
            sock = socks.last(row.get("sock"))
            names = {"pid": task.get("tgid"), "comm": task.get("comm")}
            yield row | names | {side: sock.get(side) for side in ("lport", "rport", "laddr", "raddr")}

    calls = {
        "calls": lambda row: 1,
        "bytes": lambda row: max(row["ret"], 0),
        "errors": lambda row: row["ret"] < 0,
    }
    sent = {"tx_bytes": lambda row: max(row["ret"], 0) if "requested" in row else 0}
    received = {"rx_bytes": lambda row: 0 if "requested" in row or row["flags"] & PEEK else max(row["ret"], 0)}
    one = lambda column: {column: lambda row: 1}  # noqa: E731

    sends, receives = list(named("sock_send")), list(named("sock_recv"))
    for keys in (["pid", "comm"], ["lport"], ["laddr", "lport", "raddr", "rport"]):
        yield "tcpsend", keys, grouped(sends, keys, calls)
        moved = grouped(sends + receives, keys, sent | received)
        yield "tcptop", keys, [row for row in moved if row["tx_bytes"] or row["rx_bytes"]]
    yield "tcpaccept", ["lport"], grouped(named("sock_accept"), ["lport"], one("connections"))
    opened = [row for row in named("tcp_state") if row["new"] == SYN_SENT]
    yield "tcpconnect", ["rport"], grouped(opened, ["rport"], one("connections"))
    started = [row for row in named("process_exec") if row["ret"] >= 0]
    yield "execsnoop", ["comm"], grouped(started, ["comm"], one("execs"))
    probes = [table["name"] for table in trace.tables if table.get("group") == "named"]
    hits = {probe: list(named(probe)) for probe in probes}
    weight = {"hits": lambda row: row["hits"] if "since" in row else 1}  # a row of sums stands for many
    yield "funccount", ["comm"], grouped((row for rows in hits.values() for row in rows), ["comm"], weight)
    single = [probe for probe in probes if hits[probe] and "since" not in hits[probe][0]]
    if single:
        rows = [row for probe in single for row in hits[probe]]
        yield f"funccount --probe {','.join(single)}", ["pid", "tid"], grouped(rows, ["pid", "tid"], weight)
    yield "exitsnoop --per-thread", ["code"], grouped(named("process_exit"), ["code"], one("exits"))


def main():
    trace = independent_reader.Trace(pathlib.Path(sys.argv[1]).read_bytes())
    there = []
    for report, keys, rows in reports(trace):
        words = [*report.split(), "--interval", "all", "--top", "1000000", "--by", ",".join(keys)]
        if rows:
            there.append({"args": words, "rows": rows})
    if trace.damage:
        sys.exit(f"damaged: {trace.damage}")
    print(json.dumps(there))


if __name__ == "__main__":
    main()
