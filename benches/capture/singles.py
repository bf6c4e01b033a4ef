"""Figures of `make bench-capture` that are no row of a workload's table."""

import os
import signal
import statistics
import subprocess
import time

from workloads import WORKLOADS


def miss(bench, capture):
    """A program that finds its event unwanted, over one that does nothing, ns per event.

    With all of group net, and without sock_accept: where that is a system-call tracepoint, it slows each call of the
    machine down, and what the filter itself takes is the second figure.
    """
    def storm():
        """The least of some runs: what else the machine does only adds."""
        words = [str(bench.built / "workload"), "recv-storm", "1000000"]
        return min(bench.run(words, WORKLOADS["tcp"]).work["cpu_ns"] for _ in range(5)) / 1e6

    def beside(words):
        child = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        try:
            time.sleep(1.5)
            return storm()
        finally:
            os.killpg(child.pid, signal.SIGTERM)
            child.wait(20)

    file, sleep = str(bench.dir / "miss"), [str(bench.built / "workload"), "idle", "30000"]
    bare, empty, ours, lean = [], [], [], []
    recording = [str(capture), "-o", file, "--force", "-q", "-g", "net"]
    for _ in range(bench.pairs):
        bare.append(storm())
        empty.append(beside([str(bench.built / "rec"), file, "empty", *sleep]))
        ours.append(beside([*recording, "--", *sleep]))
        lean.append(beside([*recording, "--attach", "sock_accept=none", "--", *sleep]))
    over = statistics.median(e - b for b, e in zip(bare, empty))
    extra, filter_alone = (statistics.median(o - e for o, e in zip(with_it, empty)) for with_it in (ours, lean))
    bench.results.single["miss"] = filter_alone
    print(f"filter miss: an empty program adds {over:.1f} ns to an event, ours {extra:.1f} ns more, "
          f"{filter_alone:.1f} without accepts\n")


PIECES = {
    "entry": "an entry hook, with a program that does nothing",
    "entry,return": "both hooks, likewise",
    "asked": "who runs, asked of a helper",
    "read": "who runs, read from the run queue",
    "clock": "the clock",
    "place": "a thread's place",
    "count": "an exact count",
    "record": "a record of 48 bytes into the ring",
}


def pieces(bench, _capture):
    """What a recorded call is made of: CPU time that each piece adds to a system call, ns, over the hook alone."""
    file, storm = str(bench.dir / "pieces"), [str(bench.built / "workload"), "sys-storm", "150000"]
    added = {piece: [] for piece in PIECES}
    for _ in range(3 * bench.pairs):
        bare = bench.run(storm, WORKLOADS["tcp"])
        for piece, times in added.items():
            with_it = bench.run([str(bench.built / "pieces"), file, piece, *storm], WORKLOADS["tcp"])
            times.append((with_it.work["cpu_ns"] - bare.work["cpu_ns"]) / bare.work["events"])
    hook = statistics.median(added["entry"])
    for piece, says in PIECES.items():
        over = added[piece] if piece.startswith("entry") else [a - e for a, e in zip(added[piece], added["entry"])]
        print(f"  {statistics.median(over):6.1f} ns  {says}")
    both = statistics.median(added["entry,return"])
    parts = {piece: statistics.median(added[piece]) - hook for piece in PIECES}
    total = both + 2 * (parts["read"] + parts["clock"] + parts["place"]) + parts["count"] + parts["record"]
    print(f"  {total:6.1f} ns  a call in one record: both hooks; twice who runs, the clock and a place; a count, a record\n", flush=True)


def idle(bench, name, words, seconds=10):
    """CPU of a recorder in whose recording nothing happens, in % of one processor, start and end left out."""
    def cpu(milliseconds):
        command = [str(bench.built / "workload"), "idle", str(milliseconds)]
        return bench.run(words(command), WORKLOADS["tcp"]).cpu_ns

    share = statistics.median((cpu(1000 + seconds * 1000) - cpu(1000)) / (seconds * 1e7) for _ in range(3))
    print(f"idle: {name} {share:.2f} % of one processor")
    return share


def idle_all(bench, capture):
    """The recorders, and ours as a flight recorder, which is what waits for long."""
    file = str(bench.dir / "idle")
    for recorder in bench.recorders[:2]:
        idle(bench, recorder.name, lambda command: recorder.words(WORKLOADS["tcp"], file, command))
    armed = [str(capture), "-o", file, "-g", "proc,net,net-rx", "--flight", "30s,64MiB", "--"]
    nothing = [str(bench.built / "workload"), "idle", "0"]
    starts = [bench.run([str(capture), "-o", file, "--force", "--", *nothing], WORKLOADS["tcp"]).cpu_ns for _ in range(3)]
    bench.results.single["start"] = statistics.median(starts) / 1e6
    print(f"start: {bench.results.single['start']:.0f} ms of CPU with the default groups")
    bench.results.single["idle"] = idle(bench, "capture --flight", lambda command: [*armed, *command])
    print(flush=True)


def own(bench, capture):
    """The recorder's own CPU per event: what a run of five times the rounds takes more, so that start and end fall out."""
    recorder, file = bench.recorders[1], str(bench.dir / "own")
    for name in ("sys-storm", "recv-storm", "tcp"):
        workload = WORKLOADS[name]

        def run(times):
            command = workload.command(bench.built, name, workload.count * times)
            sample = bench.run(recorder.words(workload, file, command), workload)
            return sample.cpu_ns - sample.work["cpu_ns"], recorder.counted(sample.said, file)[0]

        both = [(run(1), run(5)) for _ in range(bench.pairs)]
        each = statistics.median((long - short) / (many - few) for (short, few), (long, many) in both)
        bench.results.single["own " + name] = each
        print(f"recorder's own CPU, {name}: {each:.0f} ns per event")
    print(flush=True)
