#!/usr/bin/env python3
"""`splice.py FILE EVENTS COMMAND…`: the kernel's own trace buffer, spliced to a file.

What trace-cmd does and no more: an instance of its own, a filter by process that follows forks, 8 MiB of
buffers in all, whole pages moved without a copy. EVENTS are `system:name`, separated by commas.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

TOTAL_KIB = 8192
PAGE = 4096


class Instance:
    """A tracefs instance that is gone afterwards."""

    def __init__(self, events):
        self.dir = Path(f"/sys/kernel/tracing/instances/bench-{os.getpid()}")
        self.dir.mkdir()
        self.cpus = sorted(self.dir.glob("per_cpu/cpu*"))
        self.set("buffer_size_kb", TOTAL_KIB // len(self.cpus))
        self.set("options/event-fork", 1)
        self.set("trace_clock", "mono")
        for event in events:
            self.set(f"events/{event.replace(':', '/')}/enable", 1)

    def set(self, name, value):
        (self.dir / name).write_text(str(value))

    def counted(self, what):
        lines = [line for cpu in self.cpus for line in (cpu / "stats").read_text().splitlines()]
        return sum(int(line.split(":")[1]) for line in lines if line.startswith(what + ":"))

    def remove(self):
        self.set("events/enable", 0)
        self.dir.rmdir()


class Drain:
    """Moves full pages of one processor's buffer; at the end what is left."""

    def __init__(self, cpu, file):
        self.source = os.open(cpu / "trace_pipe_raw", os.O_RDONLY | os.O_NONBLOCK)
        self.pipe = os.pipe()
        self.file = file

    def run(self):
        while True:
            try:
                moved = os.splice(self.source, self.pipe[1], 16 * PAGE)
            except BlockingIOError:
                return
            if moved == 0:
                return
            os.splice(self.pipe[0], self.file, moved)

    def close(self):
        for fd in (self.source, *self.pipe):
            os.close(fd)


def main(path, events, command):
    file = os.open(path, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600)
    instance = Instance(events.split(","))
    try:
        gate, release = os.pipe()
        waiting = subprocess.Popen(
            ["sh", "-c", 'read _ <&"$0"; exec "$@"', str(gate), *command], pass_fds=[gate], start_new_session=True)
        instance.set("set_event_pid", waiting.pid)
        drains = [Drain(cpu, file) for cpu in instance.cpus]
        os.write(release, b"\n")
        while waiting.poll() is None:
            for drain in drains:
                drain.run()
            time.sleep(0.002)
        for drain in drains:
            drain.run()
            drain.close()
        rest = instance.counted("entries")  # on pages that are not full; the raw file leaves them out
        found = {"recorded": instance.counted("read events") + rest,
                 "lost": instance.counted("overrun") + instance.counted("dropped events"),
                 "bytes": os.fstat(file).st_size}
        print(json.dumps(found), file=sys.stderr)
        return waiting.returncode
    finally:
        if waiting.poll() is None:
            os.killpg(waiting.pid, signal.SIGKILL)
        instance.remove()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], sys.argv[3:]))
