"""What is recorded in `make bench-capture`: the program, how long it runs, and what each recorder is told of it."""

from pathlib import Path

HERE = Path(__file__).resolve().parent


class Workload:
    """What runs, how often, and what each recorder must be told to see its events."""

    def __init__(self, count, groups, rec=None, points=None, calls=None, server=False, paired=False, like=None):
        self.count, self.groups, self.server = count, groups, server
        # Without these only `capture` knows the events.
        self.rec, self.points, self.calls = rec, points, calls
        # The program's name for what runs, where that is another.
        self.like = like
        # An event is a call: some recorders have one record for it, others one for each of its two ends.
        self.paired = paired
        self.options = ["--syscalls", "each"] if paired else []

    def command(self, built, name, count=None):
        program = HERE / "server.sh" if self.server else built / "workload"
        return [str(program), self.like or name, str(self.count if count is None else count)]


NET = ("net", "recv,send_start,send,state,accept,accept4",
       "sock:sock_send_length,sock:sock_recv_length,sock:inet_sock_set_state",
       "sendto,recvfrom,read,write,writev,accept4")
RECV = ("net", "recv,accept,accept4", "sock:sock_recv_length", "recvfrom")
PROC = ("proc", "fork,exec,exit,exec_failed",
        "sched:sched_process_fork,sched:sched_process_exec,sched:sched_process_exit", "vfork,clone,execve,exit_group")
SYS = ("syscalls", "paired_call,paired_ret", "raw_syscalls:sys_enter,raw_syscalls:sys_exit", "all")
SCHED = ("sched", "switch,waking,wakeup", "sched:sched_switch,sched:sched_waking,sched:sched_wakeup", None)
WORKLOADS = {
    "recv-storm": Workload(1_000_000, *RECV),
    "recv-paced": Workload(30_000, *RECV),
    "sys-storm": Workload(150_000, *SYS, paired=True),
    "sys-paced": Workload(20_000, *SYS, paired=True),
    "tcp": Workload(60_000, *NET),
    "pipe": Workload(60_000, *SCHED),
    "spawn": Workload(600, *PROC),
    "nginx": Workload(2, *NET, server=True),
    "nginx-all": Workload(2, "all", server=True, like="nginx"),
    "redis": Workload(2, *NET, server=True),
    # What the families cost that no other recorder here has an equal of.
    "net-rx": Workload(60_000, "net-rx", like="tcp"),
    "sys-sums": Workload(150_000, "syscalls", like="sys-storm"),
    "files": Workload(100_000, "file"),
    "blocks": Workload(30_000, "block"),
    "burn": Workload(2_000, "cpu"),
    "burn-stat": Workload(2_000, "stat", like="burn"),
}
