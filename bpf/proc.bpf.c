// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0
/*
 * Processes: fork, exec (in a header of its own), exit, rename, and the `task` identity.
 *
 * This family is always loaded, because every other one refers to tasks; without group `proc` it
 * keeps identity and the set of wanted processes, and records no event.
 */
#include "common.bpf.h"
#include "pending.bpf.h"
#include "process_exec.bpf.h"
#include "task.bpf.h"

#define CLONE_THREAD 0x00010000

/* ---- identity ---- */

SEC("iter/task") __probe(task_start, 1, "iterator") __keeps("task") __otherwise("procfs")
int task_start__iter(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task;

	if (task)
		define_task(task, 0, false);
	return 0;
}

/* ---- fork ---- */

static __always_inline void emit_fork(struct task_struct *task, __u64 flags)
{
	struct process_fork *e = RESERVE(process_fork);

	if (!e)
		return;
	e->tid = current_tid();
	e->child = BPF_CORE_READ(task, pid);
	e->flags = flags;
	SUBMIT(process_fork, e);
}

/* Children of a wanted process are wanted. */
static __always_inline void adopt(__u32 child)
{
	if (filter_tgid && tgid_wanted(current_tgid()))
		want_tgid(child, true);
}

/*
 * Again, since a fork that is missed would cost all that the child and its descendants do. The kernel
 * skips a program that is already at work on this processor; from 7.0 on the kind of tracepoint below
 * runs with preemption on, so that is the case whenever a task is switched away in the middle of it.
 * This kind is not preempted, but knows no task_struct.
 */
SEC("tracepoint/task/task_newtask") __probe(descendants, 1, "tracepoint") __keeps("task") __feeds(filter_tgid)
int descendants__tp(struct trace_event_raw_task_newtask *ctx)
{
	if (!(ctx->clone_flags & CLONE_THREAD))
		adopt(ctx->pid);
	return 0;
}

SEC("tp_btf/task_newtask") __probe(process_fork, 1, "tracepoint") __keeps("task") __feeds(filter_tgid)
int BPF_PROG(process_fork__tp, struct task_struct *task, __u64 flags)
{
	adopt(task->tgid);
	define_task(task, 0, false);
	if (events_wanted())
		emit_fork(task, flags);
	else if (group_enabled)
		FILTERED(process_fork);
	return 0;
}

/* ---- exit and rename ---- */

static __always_inline void emit_exit(struct task_struct *task, bool last)
{
	struct process_exit *e = RESERVE(process_exit);
	int code;

	if (!e)
		return;
	code = BPF_CORE_READ(task, exit_code);
	e->tid = current_tid();
	e->code = (code >> 8) & 0xff;
	e->signal = code & 0x7f;
	e->core = (code & 0x80) != 0;
	e->last = last;
	e->age = e->ts - BPF_CORE_READ(task, start_time);
	e->utime = BPF_CORE_READ(task, utime);
	e->stime = BPF_CORE_READ(task, stime);
	SUBMIT(process_exit, e);
}

SEC("tp_btf/sched_process_exit") __probe(process_exit, 1, "tracepoint") __keeps("task")
int BPF_PROG(process_exit__tp, struct task_struct *task)
{
	bool last = BPF_CORE_READ(task, signal, live.counter) == 0;
	__u32 tid = current_tid(), tgid = current_tgid();

	if (events_wanted())
		emit_exit(task, last);
	else if (group_enabled)
		FILTERED(process_exit);
	define_task(task, 0, true);
	count_unreturned(pending_call());
	DROP_THREAD(pending_calls, tid);
	bpf_map_delete_elem(&pending_execs, &tid);
	if (filter_tgid && last)
		want_tgid(tgid, false);
	return 0;
}

static __always_inline void emit_rename(struct task_struct *task, const char *comm)
{
	struct task_rename *e = RESERVE(task_rename);

	if (!e)
		return;
	e->tid = BPF_CORE_READ(task, pid);
	bpf_probe_read_kernel_str(e->comm, sizeof(e->comm), comm);
	SUBMIT(task_rename, e);
}

SEC("tp_btf/task_rename") __probe(task_rename, 1, "tracepoint") __keeps("task")
int BPF_PROG(task_rename__tp, struct task_struct *task, const char *comm)
{
	define_task(task, comm, false);
	if (events_wanted())
		emit_rename(task, comm);
	else if (group_enabled)
		FILTERED(task_rename);
	return 0;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
