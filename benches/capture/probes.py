#!/usr/bin/env python3
"""What a hit of a probe that the user names costs the program, beside bpftrace on the same function or tracepoint.

    make bench-probes                                     five rounds of 50,000 hits (about five minutes)
    benches/capture/probes.py --rounds 9 --hits 200000

In each round every recorder runs once, after a run without any; a figure is the median over the rounds of the CPU time (user and
system) that the program needed more than in the round's run without probes, per hit. `pair` is a call, from entry to
return. Recorders see the program that this script starts and nothing else, and end with it.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
LIMIT = 120  # seconds: nothing here takes a fourth of it

# Name: what capture is told, to record and to add up; what bpftrace is told, to add up and to print; words of the program.
PROBES = {
    "uprobe": ("u:{p}:add(a=arg1)", "u:{p}:add {{count}}", "uprobe:{p}:add {{ @ = count(); }}",
               "uprobe:{p}:add {{ printf(\"%llu %d %d\\n\", nsecs, tid, arg0); }}", []),
    "pair": ("ur:{p}:add(a=arg1)", "ur:{p}:add {{hist}}",
             "uprobe:{p}:add {{ @s[tid] = nsecs; }} uretprobe:{p}:add {{ @ = hist(nsecs - @s[tid]); delete(@s[tid]); }}",
             "uprobe:{p}:add {{ @s[tid] = nsecs; @a[tid] = arg0; }} uretprobe:{p}:add "
             "{{ printf(\"%llu %d %d %d\\n\", nsecs - @s[tid], tid, @a[tid], retval); delete(@s[tid]); delete(@a[tid]); }}", []),
    "tracepoint": ("t:syscalls:sys_enter_getppid", "t:syscalls:sys_enter_getppid {{count}}",
                   "tracepoint:syscalls:sys_enter_getppid {{ @ = count(); }}",
                   "tracepoint:syscalls:sys_enter_getppid {{ printf(\"%llu %d\\n\", nsecs, tid); }}", ["storm"]),
}
RECORDERS = ["capture, a row each", "capture, added up", "bpftrace, added up", "bpftrace, a line each"]


def measure(file, command):
    """Runs the command and leaves the CPU time that it took, in ns."""
    status = subprocess.run(command, stdout=subprocess.DEVNULL).returncode
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    Path(file).write_text(json.dumps(int((used.ru_utime + used.ru_stime) * 1e9)))
    return status


class Bench:
    def __init__(self, options, work):
        self.options, self.work = options, Path(work)
        self.program = self.work / "named"
        source = ROOT / "tests/truth/named.c"
        subprocess.run(["cc", "-O1", "-fno-omit-frame-pointer", "-o", self.program, source], check=True)

    def run(self, probe, recorder):
        """CPU time of the program, in ns."""
        *specs, words = PROBES[probe]
        file = self.work / "cpu"
        file.unlink(missing_ok=True)
        command = [sys.executable, str(Path(__file__).resolve()), "--measure", str(file), str(self.program),
                   str(self.options.hits), *words]
        if recorder is not None:
            spec = specs[recorder].format(p=self.program)
            if recorder < 2:
                command = [self.options.capture, "-o", str(self.work / "trace.bin"), "--force", "-e", spec, "--", *command]
            else:
                command = ["bpftrace", "-B", "full", "-o", str(self.work / "lines"), "-e", spec, "-c", " ".join(command)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT)
        if not file.exists():
            raise SystemExit(f"probes.py: {' '.join(command)}\n{done.stdout}{done.stderr}")
        self.check(probe, recorder, done.stderr)
        return json.loads(file.read_text())

    def check(self, probe, recorder, said):
        """Whoever lost hits is not measured."""
        if recorder is not None and recorder < 2 and " 0 lost" not in said:
            raise SystemExit(f"probes.py: {probe}, {RECORDERS[recorder]}: {said}")
        if recorder == 3:
            with open(self.work / "lines", "rb") as lines:
                found = sum(1 for line in lines if line[:1].isdigit())
            if found < self.options.hits:
                print(f"probes.py: bpftrace printed {found} of {self.options.hits} lines", file=sys.stderr)


def main():
    if sys.argv[1:2] == ["--measure"]:
        sys.exit(measure(sys.argv[2], sys.argv[3:]))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--hits", type=int, default=50_000)
    parser.add_argument("--capture", default=str(ROOT / "target/release/capture"))
    options = parser.parse_args()
    more = {(probe, recorder): [] for probe in PROBES for recorder in range(len(RECORDERS))}
    with tempfile.TemporaryDirectory(prefix="probes-") as work:
        bench = Bench(options, work)
        for _ in range(options.rounds):
            for probe in PROBES:
                bare = bench.run(probe, None)
                for recorder in range(len(RECORDERS)):
                    more[probe, recorder].append((bench.run(probe, recorder) - bare) / options.hits)
    print(f"{'ns of CPU per hit':<24}" + "".join(f"{probe:>20}" for probe in PROBES))
    for recorder, name in enumerate(RECORDERS):
        samples = [more[probe, recorder] for probe in PROBES]
        cells = [f"{statistics.median(s):,.0f} ({min(s):,.0f}-{max(s):,.0f})" for s in samples]
        print(f"{name:<24}" + "".join(f"{cell:>20}" for cell in cells))


if __name__ == "__main__":
    main()
