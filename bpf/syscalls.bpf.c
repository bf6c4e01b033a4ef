/* SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0 */
/*
 * System calls: added up by process, number, error and power of two of the latency, or, with
 * --syscalls each, one record per call.
 *
 * exit and exit_group do not return, and a new task's first return belongs to the call of its parent:
 * neither is a call here.
 *
 * What the governor leaves out of single calls are processes; sums are few rows whatever happens.
 */
#include "common.bpf.h"
#include "aggregate.bpf.h"
#include "running.bpf.h"
#include "sample.bpf.h"
#include "thread.bpf.h"
#include "threshold.bpf.h"

#define TABLE32 0x8000

/* Record each call instead of adding them up. */
const volatile bool each_syscall = false;

/* A thread's call in flight. An entry stays for its next call and goes with the thread. */
struct open_syscall {
	THREAD;
	__u64 ts; /* 0: none */
	__u64 nr;
};
THREADS(open_syscalls, struct open_syscall);

AGGREGATE_MAP(syscall_agg, calls);

struct outcome {
	__u32 tgid, tid, nr, open;
	__s64 ret;
	__u64 start; /* 0: not seen */
};

/* ---- recording ---- */

static __always_inline __u16 errno_of(__s64 ret)
{
	return ret < 0 && ret >= -4095 ? -ret : 0;
}

static __always_inline void record_call(const struct outcome *call)
{
	__u64 now = bpf_ktime_get_ns();
	struct syscall *e;

	if (too_short(call->start, now)) {
		FILTERED(syscall);
		return;
	}
	e = RESERVE_AT(syscall, now);
	if (!e)
		return;
	e->tid = call->tid;
	e->syscall = call->nr;
	e->errno = errno_of(call->ret);
	e->open = call->open;
	e->ret = call->ret;
	e->latency = call->start ? e->ts - call->start : 0;
	SUBMIT(syscall, e);
}

static __always_inline void add_call(const struct outcome *call)
{
	__u64 latency = call->start ? bpf_ktime_get_ns() - call->start : 0;
	struct syscall_agg row = {
		.since = interval,
		.tgid = call->tgid,
		.syscall = call->nr,
		.errno = errno_of(call->ret),
		.slot = call->start ? log2_of(latency) : NO_SLOT,
		.open = call->open,
	};
	struct { __u64 calls, total, longest; } *sums = ADD_UP(syscall_agg, calls, &row);

	if (!sums)
		return;
	sums->calls++;
	sums->total += latency;
	if (latency > sums->longest)
		sums->longest = latency;
}

static __always_inline void finish_call(const struct outcome *call)
{
	if (!each_syscall)
		add_call(call);
	else if (left_out(call->tgid))
		LEFT_OUT(syscall);
	else
		record_call(call);
}

/* ---- the processor's side ---- */

static __always_inline __u32 number32(struct pt_regs *regs)
{
#if defined(__TARGET_ARCH_x86)
	return regs->cs == 0x23 ? TABLE32 : 0; /* code of a 32-bit program */
#else
	return ((struct pt_regs___arm64_call *)regs)->pstate & 0x10 ? TABLE32 : 0;
#endif
}

static __always_inline __u32 number_at_exit(struct pt_regs *regs)
{
#if defined(__TARGET_ARCH_x86)
	return regs->orig_ax;
#else
	return ((struct pt_regs___arm64_call *)regs)->syscallno;
#endif
}

/* ---- probes ---- */

static __always_inline bool call_wanted(__u64 who)
{
	return gate && !want_port && wanted(who);
}

static __always_inline void call_lost(void)
{
	if (each_syscall)
		STATE_FULL(syscall);
	else
		STATE_FULL(syscall_agg);
}

/* Whether the task is younger than the recording: then it has no call from before. */
static __always_inline bool began_inside(void)
{
	struct task_struct *task = running_task();

	return BPF_CORE_READ(task, start_time) >= gate;
}

SEC("tp_btf/sys_enter") __probe(syscall, 1, "tracepoint")
int BPF_PROG(syscall_enter__tp, struct pt_regs *regs, long nr)
{
	struct open_syscall *open;
	__u64 who = running_ids();

	if (!call_wanted(who))
		return 0;
	open = FIND_THREAD(open_syscalls, who);
	if (!open)
		open = MAKE_THREAD(open_syscalls, who);
	if (!open) {
		if (began_inside()) /* else its return is taken for that of a call from before, and is a row */
			call_lost();
		return 0;
	}
	open->nr = (nr & (TABLE32 - 1)) | number32(regs);
	open->ts = bpf_ktime_get_ns();
	return 0;
}

/* A call that began before the recording. */
static __always_inline void finish_unseen(struct outcome *call, struct pt_regs *regs)
{
	if (began_inside())
		return; /* a new task's first return: the call was its parent's */
	call->nr = (number_at_exit(regs) & (TABLE32 - 1)) | number32(regs);
	finish_call(call);
}

SEC("tp_btf/sys_exit") __probe(syscall, 1, "tracepoint")
int BPF_PROG(syscall_exit__tp, struct pt_regs *regs, long ret)
{
	__u64 id = running_ids();
	struct outcome call = { .tgid = id >> 32, .tid = id, .ret = ret };
	struct open_syscall *open = FIND_THREAD(open_syscalls, call.tid);

	if (!gate)
		return 0;
	if (open && open->ts) {
		call.nr = open->nr;
		call.start = open->ts;
		open->ts = 0;
		finish_call(&call);
	} else if (call_wanted(id)) {
		finish_unseen(&call, regs);
	} else if (each_syscall) {
		FILTERED(syscall);
	} else {
		FILTERED(syscall_agg);
	}
	return 0;
}

SEC("tp_btf/sched_process_exit") __probe(syscall, 1, "tracepoint") __notes
int BPF_PROG(syscall_forget__tp, struct task_struct *task)
{
	DROP_THREAD(open_syscalls, current_tid());
	return 0;
}

/* At the end of the recording: calls that have not returned. */
SEC("iter/task") __probe(syscall_open, 1, "iterator")
int syscall_open__last(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task;
	struct outcome call = { .open = 1 };
	struct open_syscall *open;

	if (!task)
		return 0;
	call.tid = BPF_CORE_READ(task, pid);
	open = FIND_THREAD(open_syscalls, call.tid);
	if (!open || !open->ts)
		return 0;
	call.tgid = BPF_CORE_READ(task, tgid);
	call.nr = open->nr;
	call.start = open->ts;
	finish_call(&call);
	return 0;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
