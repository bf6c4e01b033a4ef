"""What the recorder is to cost, and whether it does: the last table of `make bench-capture`.

Each target reads the pairs that the run has gathered. What was not run, or cannot run here, is said to be so: a target
without a figure is neither met nor missed.
"""

import statistics

STORM, PACED = "sys-storm", "sys-paced"


class Results:
    """Pairs by workload and recorder, figures by workload and recorder, and single numbers by name."""

    def __init__(self):
        self.pairs, self.figures, self.single = {}, {}, {}

    def figure(self, workload, key, recorder="capture"):
        return self.figures.get(workload, {}).get(recorder, {}).get(key)

    def ratio(self, workload, other, of):
        """Median over the rounds of ours over another recorder's; none where that is within the noise."""
        pairs = self.pairs.get(workload, {})
        both = [(of(ours), of(theirs)) for ours, theirs in zip(pairs.get("capture", []), pairs.get(other, []))]
        ratios = [ours / theirs for ours, theirs in both if theirs > 0]
        return statistics.median(ratios) if ratios else None


def added(pair):
    bare, recorded, _, _ = pair
    return (recorded.work["cpu_ns"] - bare.work["cpu_ns"]) / recorded.work["events"]


def throughput(pair):
    return pair[1].rate()


def size(pair):
    return pair[3] / max(pair[2] or 0, 1)


def peak(results):
    found = [rows["capture"]["mb"] for rows in results.figures.values() if "capture" in rows]
    return max(found) if found else None


def targets():
    """Name, bound, what the figure is, unit, whether less is better."""
    at_most = [
        (f"storm: time added over {other}", bound, lambda r, other=other: r.ratio(STORM, other, added), "x")
        for other, bound in (("rec", 1.10), ("perf", 0.30), ("splice", 0.75))
    ]
    at_most += [
        (f"{STORM}: events lost", 0, lambda r: r.figure(STORM, "lost"), ""),
        ("recv-storm: events lost", 0, lambda r: r.figure("recv-storm", "lost"), ""),
        ("storm: bytes per event", 1.2, lambda r: r.figure(STORM, "bytes"), "B"),
        ("storm: bytes over perf record -z 1", 0.3, lambda r: r.ratio(STORM, "perf -z", size), "x"),
        ("nginx, all groups: bytes per event", 3.0, lambda r: r.figure("nginx-all", "bytes"), "B"),
        ("recorder's CPU per event, storm", 110, lambda r: r.single.get("own " + STORM), "ns"),
        ("recorder's CPU per event, TCP", 110, lambda r: r.single.get("own tcp"), "ns"),
        ("filter miss over an empty hook", 6, lambda r: r.single.get("miss"), "ns"),
        ("one call paired in the kernel, both hooks", 160, lambda r: r.figure(STORM, "added"), "ns"),
        ("idle, flight recorder armed", 0.5, lambda r: r.single.get("idle"), "%"),
        ("CPU until the first event, default groups", 150, lambda r: r.single.get("start"), "ms"),
        ("peak memory with 8 MiB of rings", 32, peak, "MB"),
    ]
    kept = [
        (f"{name}: throughput over rec's", 0.97, lambda r, name=name: r.ratio(name, "rec", throughput), "x")
        for name in (PACED, "recv-paced", "tcp", "pipe", "spawn", "nginx", "redis")
    ]
    stretch = [
        (f"{name}: throughput over bare (stretch)", bound, lambda r, name=name: r.figure(name, "kept"), "x")
        for name, bound in ((PACED, 0.975), ("tcp", 0.90), ("pipe", 0.85), ("spawn", 0.97), ("nginx", 0.80), ("redis", 0.85))
    ]
    return [(*target, True) for target in at_most] + [(*target, False) for target in kept + stretch]


def show(results):
    print("{:<46}{:>12}{:>12}  {}".format("target", "", "measured", "met"))
    for name, bound, measure, unit, less in targets():
        found = measure(results)
        sign = "<=" if less else ">="
        told = "-" if found is None else f"{found:.3g} {unit}".strip()
        met = "not measured" if found is None else "yes" if (found <= bound if less else found >= bound) else "NO"
        print("{:<46}{:>12}{:>12}  {}".format(name, f"{sign} {bound:g} {unit}".strip(), told, met))
