/* SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0 */
/*
 * The task that runs here, by loads alone: what bpf_get_current_task() and bpf_get_current_pid_tgid() say.
 *
 * A helper's call costs 16 ns where the processor's returns are guarded (AMD's Safe RET), which is more than all
 * else that a filter does. The processor's run queue names its running task, and where that queue is, any task that
 * runs there knows; so each processor asks a helper once. Kernels without the pieces keep the helpers.
 *
 * Not in programs on sched_switch, nor in interrupts that cannot be masked: for a moment of each switch the queue
 * names the next task while the last one still runs. System calls and sockets never see that moment.
 */
#ifndef TAPEDECK_RUNNING_H
#define TAPEDECK_RUNNING_H

#include "common.bpf.h"

static __always_inline bool queues_lead_to_tasks(void)
{
	return bpf_ksym_exists(bpf_rdonly_cast) && bpf_core_field_exists(struct sched_entity, cfs_rq) &&
	       bpf_core_field_exists(struct cfs_rq, rq) && bpf_core_field_exists(struct rq, curr);
}

/* Asks the helper, and remembers the queue if that names the same task. */
static __always_inline struct task_struct *find_queue(struct cpu_state *state)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	__u64 queue = ADDRESS(task, se.cfs_rq, rq);

	if (ADDRESS((struct rq *)queue, curr) == (__u64)task)
		state->queue = queue;
	return task;
}

static __always_inline struct task_struct *running_task(void)
{
	struct cpu_state *state = this_cpu();

	if (!queues_lead_to_tasks() || !state)
		return (struct task_struct *)bpf_get_current_task();
	if (__builtin_expect(!state->queue, 0))
		return find_queue(state);
	return BPF_CORE_READ((struct rq *)state->queue, curr);
}

/* Process and thread in one number, as bpf_get_current_pid_tgid() has them. */
static __always_inline __u64 running_ids(void)
{
	struct task_struct *task;

	if (!queues_lead_to_tasks())
		return bpf_get_current_pid_tgid();
	task = running_task();
	return (__u64)BPF_CORE_READ(task, tgid) << 32 | (__u32)BPF_CORE_READ(task, pid);
}

#endif
