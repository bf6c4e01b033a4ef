#!/usr/bin/env python3
"""What recording costs, side by side: bare, a minimal recorder, `capture`, and the peers that are installed.

    make bench-capture                               all workloads, five pairs each (half an hour)
    make bench-capture QUICK=1                       without the slow peers and with shorter runs (under ten minutes)
    benches/capture/run.py --pairs 9 recv-storm tcp  these only
    benches/capture/run.py --only capture,rec tcp    these recorders only
    benches/capture/run.py pieces own                single figures (singles.py)

Every sample is a bare run followed at once by a recorded run; a figure is the median over the pairs, so what
else the machine does falls on both. Recorders and workloads belong to this process and end with it; each
records its own command only; what they write goes to a memory file system and is removed.

    kept     throughput of the recorded run over the bare one: 1 is free
    +ns      CPU time that the workload needs more, per event (workload.c measures it around its loop)
    lost     events that the workload made and the recorder does not have, or more if it says so itself
    B/event  bytes of the file per event
    k/s      thousands of events recorded in a second
    ns CPU   what the recorder itself needs per event, user and system, less what it needs for an idle second
    start    CPU of the recorder for a command that does nothing, ms
    MB       peak resident memory

The last table says of each target what was measured, and whether that meets it (targets.py).
"""

import argparse
import contextlib
import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import singles
import targets
from workloads import HERE, WORKLOADS

ROOT = HERE.parent.parent
LIMIT = 120  # seconds: nothing here takes a fourth of it


class Refused(Exception):
    """This recorder cannot do that here."""


class Recorder:
    """How a recorder is called and how it says what it has."""

    def __init__(self, name, program, words, counted):
        self.name, self.program, self.words, self.counted = name, program, words, counted


def from_json(said, _file):
    found = json.loads(said.strip().splitlines()[-1])
    return found["recorded"], found.get("lost", 0)


def from_capture(said, _file):
    told = re.search(r"([\d,]+) events captured.*?([\d,]+) lost", said)
    if not told:
        raise Refused(said.strip().splitlines()[-1] if said.strip() else "it said nothing")
    return tuple(int(count.replace(",", "")) for count in told.groups())


def from_perf(said, file):
    listed = subprocess.run(["perf", "report", "--stats", "-i", file], capture_output=True, text=True, timeout=LIMIT)
    samples = re.findall(r"SAMPLE events:\s+(\d+)", listed.stdout)
    if not samples:
        raise Refused(said.strip().splitlines()[-1] if said.strip() else "perf recorded nothing")
    chunks = re.findall(r"LOST_SAMPLES events:\s+(\d+)", listed.stdout)
    return int(samples[0]), sum(map(int, chunks))


def from_lines(_said, file):
    with open(file, "rb") as lines:
        return sum(1 for _ in lines), 0


def bpftrace_program(workload):
    probes = ",".join("tracepoint:" + point for point in workload.points.split(","))
    names = "comm == \"workload\" || comm == \"nginx\" || comm == \"wrk\" || comm == \"redis-server\""
    return f'{probes} / {names} / {{ printf("%llu %d %d %s\\n", nsecs, cpu, tid, probe); }}'


def recorders(built, capture):
    """In the order of the table. Each gets (workload, file, command) and returns the words to run."""
    def perf(*options):
        return lambda w, file, command: [
            "perf", "record", "-q", *options, "-o", file, *(f"-e{point}" for point in w.points.split(",")), "--", *command]

    return [
        Recorder("rec", built / "rec", lambda w, file, command: [str(built / "rec"), file, w.rec, *command], from_json),
        Recorder("capture", capture,
                 lambda w, file, command: [str(capture), "-o", file, "--force", "-g", w.groups, *w.options, "--", *command], from_capture),
        Recorder("splice", sys.executable,
                 lambda w, file, command: [sys.executable, str(HERE / "splice.py"), file, w.points, *command], from_json),
        Recorder("perf", "perf", perf("-m8M"), from_perf),
        Recorder("perf -z", "perf", perf("-m8M", "-z1"), from_perf),
        Recorder("bpftrace", "bpftrace",
                 lambda w, file, command: ["bpftrace", "-o", file, "-e", bpftrace_program(w), "-c", " ".join(command)], from_lines),
        Recorder("strace", "strace",
                 lambda w, file, command: ["strace", "-f", "-o", file, f"-e{w.calls}", *command] if w.calls else None, from_lines),
        Recorder("trace-cmd", "trace-cmd",
                 lambda w, file, command: ["trace-cmd", "record", "-q", "-b", "4096", "-c", "-F", "-o", file,
                                           *(word for point in w.points.split(",") for word in ("-e", point)), *command], None),
        Recorder("sysdig", "sysdig", lambda w, file, command: ["sysdig", "-w", file, "--", *command], None),
    ]


ONCE_PER_CALL = {"rec", "capture", "strace"}
# Every group with events; `malloc` and the like are probes of the user's own.
ALL = {"block", "cpu", "file", "net", "net-rx", "proc", "sched", "stat", "syscalls"}
SLOW = {"bpftrace", "strace"}  # they stop or wake for each event: a tenth of the rounds is enough


class Sample:
    """One run: what the workload said of itself, and what else its recorder used."""

    def __init__(self, words, cpus, limit=LIMIT):
        self.child = None
        with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
            self.child = subprocess.Popen(words, stdout=out, stderr=err, start_new_session=True,
                                          preexec_fn=lambda: os.sched_setaffinity(0, cpus))
            status, usage = self.wait(limit)
            out.seek(0), err.seek(0)
            self.said, told = err.read(), out.read()
        lines = [line for line in told.splitlines() if line.startswith('{"rounds"')]
        if not lines:
            last = (self.said.strip() or told.strip() or f"status {status}").splitlines()[-1]
            raise Refused(last)
        self.work = json.loads(lines[-1])
        self.cpu_ns = (usage.ru_utime + usage.ru_stime) * 1e9
        self.rss = usage.ru_maxrss / 1024

    def wait(self, limit):
        deadline = time.monotonic() + limit
        while time.monotonic() < deadline:
            pid, status, usage = os.wait4(self.child.pid, os.WNOHANG)
            if pid:
                self.child.returncode = status
                return status, usage
            time.sleep(0.005)
        os.killpg(self.child.pid, signal.SIGKILL)
        self.child.wait()
        raise Refused(f"not done after {limit} s")

    def rate(self):
        return self.work["rounds"] / self.work["wall_ns"]


class Bench:
    """Everything that a pair needs."""

    def __init__(self, built, capture, dir, pairs, quick=False):
        self.built, self.dir, self.pairs, self.quick = built, Path(dir), pairs, quick
        self.results = targets.Results()
        self.recorders = recorders(built, capture)
        cpus = sorted(os.sched_getaffinity(0))
        self.all, self.recording = set(cpus), {cpus[0]}

    def run(self, words, workload):
        return Sample(words, self.all if workload.server else self.recording)

    def startup(self, recorder, workload):
        """CPU of a recording in which nothing happens, ns: median of three."""
        words = recorder.words(workload, str(self.dir / "idle"), [str(self.built / "workload"), "idle", "0"])
        if words is None:
            raise Refused("it does not know these events")
        return statistics.median(self.run(words, workload).cpu_ns for _ in range(3))

    def pair(self, name, recorder):
        workload, file = WORKLOADS[name], str(self.dir / "recorded")
        count = workload.count // 10 if recorder.name in SLOW and not workload.server else workload.count
        if self.quick and not workload.server:
            count = max(count // 3, 1)
        command = workload.command(self.built, name, count)
        bare = self.run(command, workload)
        with_it = self.run(recorder.words(workload, file, command), workload)
        recorded, with_it.lost = recorder.counted(with_it.said, file) if recorder.counted else (None, 0)
        if recorded and workload.paired and recorder.name not in ONCE_PER_CALL:
            recorded //= 2
        size = os.path.getsize(file)
        os.remove(file)
        return bare, with_it, recorded, size

    def figures(self, name, recorder, pairs, idle):
        """A line of the table from the pairs of one recorder."""
        median = statistics.median
        row = {"kept": median(r.rate() / b.rate() for b, r, _, _ in pairs), "mb": max(r.rss for _, r, _, _ in pairs)}
        if recorder.counted:
            row["bytes"] = median(size / max(found, 1) for _, _, found, size in pairs)
            row["rate"] = median(found / r.work["wall_ns"] * 1e6 for _, r, found, _ in pairs)
        if WORKLOADS[name].server:
            return row
        # Where events are not calls of the workload, those that were recorded.
        row["added"] = median((r.work["cpu_ns"] - b.work["cpu_ns"]) / (r.work["events"] or max(found, 1)) for b, r, found, _ in pairs)
        row["start"] = idle / 1e6
        if recorder.counted:
            if WORKLOADS[name].rec:  # else events are not calls of the workload
                row["lost"] = max(max(r.work["events"] - found, r.lost) for _, r, found, _ in pairs)
            if recorder.name not in SLOW:
                row["cpu"] = median((r.cpu_ns - r.work["cpu_ns"] - idle) / max(found, 1) for _, r, found, _ in pairs)
        return row


SINGLE = {"miss": singles.miss, "own": singles.own, "idle": singles.idle_all, "pieces": singles.pieces}


def build(target):
    """The C programs, against the libbpf that cargo built."""
    target.mkdir(parents=True, exist_ok=True)
    # Newest first: an older build of the same crate may lie beside it.
    libraries = sorted(target.parent.glob("release/build/libbpf-sys-*/out/libbpf.a"), key=os.path.getmtime)
    if not libraries:
        sys.exit("bench-capture: no libbpf in the target folder: run `cargo build --release --bin capture` first")
    include = libraries[-1].parent / "include"
    clangs = ["clang", *(f"clang-{version}" for version in range(24, 13, -1))]
    clang = os.environ.get("CLANG") or next(filter(shutil.which, clangs))
    arch = {"x86_64": "x86", "aarch64": "arm64"}[os.uname().machine]
    cc = ["cc", "-O2", "-Wall", "-Werror"]
    for words in (
        [*cc, HERE / "workload.c", "-o", target / "workload"],
        [clang, "-g", "-O2", "-target", "bpf", "-mcpu=v3", "-Wall", f"-D__TARGET_ARCH_{arch}", f"-I{include}",
         f"-I{ROOT / 'bpf'}", "-c", HERE / "rec.bpf.c", "-o", target / "rec.bpf.o"],
        [clang, "-g", "-O2", "-target", "bpf", "-mcpu=v3", "-Wall", f"-D__TARGET_ARCH_{arch}", f"-I{include}",
         f"-I{ROOT / 'bpf'}", "-c", HERE / "pieces.bpf.c", "-o", target / "pieces.bpf.o"],
        [*cc, f"-I{include}", HERE / "rec.c", libraries[-1], "-lelf", "-lz", "-o", target / "rec"],
    ):
        subprocess.run(words, check=True)
    # The same program, which loads the object of its own name.
    shutil.copy(target / "rec", target / "pieces")


COLUMNS = (("kept", "kept", "{:.3f}"), ("+ns", "added", "{:.0f}"), ("lost", "lost", "{:,}"), ("k/s", "rate", "{:.1f}"), ("B/event", "bytes", "{:.2f}"),
           ("ns CPU", "cpu", "{:.0f}"), ("start", "start", "{:.0f}"), ("MB", "mb", "{:.0f}"))


def show(name, row):
    cells = [format.format(row[key]) if key in row else "-" for _, key, format in COLUMNS]
    print("  {:<10}".format(name) + "".join(f"{cell:>10}" for cell in cells), flush=True)


def show_ratios(pairs, server):
    """Ours over each other one, round by round: what changed between rounds then falls on both."""
    for other in (name for name in pairs if name != "capture"):
        both = list(zip(pairs["capture"], pairs[other]))
        kept = statistics.median(ours[1].rate() / theirs[1].rate() for ours, theirs in both)
        line = f"  capture / {other}: {kept:.3f} of the throughput"
        if not server:
            added = [[(r.work["cpu_ns"] - b.work["cpu_ns"]) / r.work["events"] for b, r, _, _ in pair] for pair in both]
            ratios = [ours / theirs for ours, theirs in added if theirs > 0]
            line += f", {statistics.median(ratios):.2f} of the time added" if ratios else ", time added below the noise"
        print(line)


@contextlib.contextmanager
def device(directory):
    """A disk in memory for the workload that needs one; none where there are no loop devices: that workload then says so."""
    if not shutil.which("losetup"):
        yield
        return
    file = Path(directory) / "disk"
    file.write_bytes(bytes(16 << 20))
    made = subprocess.run(["losetup", "--find", "--show", "--direct-io=off", str(file)], capture_output=True, text=True)
    try:
        os.environ["BENCH_DEVICE"] = made.stdout.strip()
        yield
    finally:
        if made.returncode == 0:
            subprocess.run(["losetup", "--detach", made.stdout.strip()], check=False)


NEEDED = {"nginx": ("nginx", "wrk"), "nginx-all": ("nginx", "wrk"), "redis": ("redis-server", "redis-benchmark")}


def bench_workload(bench, name, only, groups):
    workload = WORKLOADS[name]
    missing = [group for group in workload.groups.split(",") if group not in groups and group != "all"]
    missing += [program for program in NEEDED.get(name, ()) if not shutil.which(program)]
    if missing:
        print(f"{name}: skipped, there is no {' and no '.join(missing)}\n")
        return
    idle, pairs, refused = {}, {}, {}
    if workload.groups == "all":
        workload.groups = ",".join(sorted(groups & ALL))
    if not workload.rec:
        only = {"capture"}
    if bench.quick and not only:
        only = {recorder.name for recorder in bench.recorders} - SLOW
    chosen = [recorder for recorder in bench.recorders if not only or recorder.name in only]
    for round in range(bench.pairs):
        for recorder in chosen:
            if recorder.name in refused:
                continue
            try:
                if not shutil.which(str(recorder.program)):
                    raise Refused("not installed")
                if round == 0:
                    idle[recorder.name] = bench.startup(recorder, workload)
                pairs.setdefault(recorder.name, []).append(bench.pair(name, recorder))
            except (Refused, OSError, subprocess.TimeoutExpired) as error:
                refused[recorder.name] = error
                pairs.pop(recorder.name, None)
    print(f"{name} ({workload.count} {'seconds' if workload.server else 'rounds'}, median of {bench.pairs} pairs)")
    print("  {:<10}".format("") + "".join(f"{title:>10}" for title, _, _ in COLUMNS))
    for recorder in chosen:
        if recorder.name in refused:
            print(f"  {recorder.name:<10} not here: {refused[recorder.name]}")
        else:
            figures = bench.figures(name, recorder, pairs[recorder.name], idle[recorder.name])
            bench.results.figures.setdefault(name, {})[recorder.name] = figures
            show(recorder.name, figures)
    bench.results.pairs[name] = pairs
    if "capture" in pairs:
        show_ratios(pairs, workload.server)
    print(flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workload", nargs="*", help="of: " + " ".join([*WORKLOADS, *SINGLE]) + " (default: all)")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="a third of the rounds, without " + " and ".join(sorted(SLOW)))
    parser.add_argument("--only", type=lambda text: set(text.split(",")), help="recorders, separated by commas")
    parser.add_argument("--target", type=Path, default=Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")))
    parser.add_argument("--capture", type=Path, help="another build of the recorder")
    args = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("bench-capture: recorders need root")
    built, capture = args.target / "capture-bench", args.capture or args.target / "release" / "capture"
    build(built)
    listed = subprocess.run([capture, "--list"], capture_output=True, text=True, check=True, timeout=LIMIT).stdout
    groups = set(re.findall(r"[a-z][a-z-]*", listed))
    with tempfile.TemporaryDirectory(dir="/dev/shm") as dir, device(dir):
        bench = Bench(built, capture, dir, args.pairs, args.quick)
        chosen = args.workload or [*WORKLOADS, *SINGLE]
        for name in chosen:
            if name in SINGLE:
                SINGLE[name](bench, capture)
            else:
                bench_workload(bench, name, args.only, groups)
        targets.show(bench.results)


if __name__ == "__main__":
    main()
