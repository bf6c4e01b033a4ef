/* SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0 */
/* Task identity, and whether events of the current task are wanted. */
#ifndef TAPEDECK_TASK_H
#define TAPEDECK_TASK_H

#define PF_KTHREAD 0x00200000

static __always_inline void fill_task(struct task_row *t, struct task_struct *task)
{
	struct mm_struct *mm = BPF_CORE_READ(task, mm);

	t->tid = BPF_CORE_READ(task, pid);
	t->tgid = BPF_CORE_READ(task, tgid);
	t->ppid = BPF_CORE_READ(task, real_parent, tgid);
	t->uid = BPF_CORE_READ(task, cred, uid.val);
	t->start = BPF_CORE_READ(task, start_time);
	t->cgroup = BPF_CORE_READ(task, cgroups, dfl_cgrp, kn, id);
	t->netns = task_netns(task);
	t->mntns = BPF_CORE_READ(task, nsproxy, mnt_ns, ns.inum);
	t->pidns = BPF_CORE_READ(task, nsproxy, pid_ns_for_children, ns.inum);
	t->kthread = !mm && BPF_CORE_READ(task, flags) & PF_KTHREAD;
	bpf_core_read(t->comm, sizeof(t->comm), &task->comm);
}

/* Where it runs, or ran last. */
static __always_inline __u32 processor_of(struct task_struct *task)
{
	struct task_struct___until_5_16 *old = (struct task_struct___until_5_16 *)task;

	if (bpf_core_field_exists(old->cpu))
		return BPF_CORE_READ(old, cpu);
	return BPF_CORE_READ(task, thread_info.cpu);
}

static __always_inline void define_task(struct task_struct *task, const char *comm, bool ended)
{
	struct task_row *t = RESERVE(task_row);

	if (!t)
		return;
	fill_task(t, task);
	if (comm)
		bpf_probe_read_kernel_str(t->comm, sizeof(t->comm), comm);
	t->ended = ended;
	SUBMIT(task_row, t);
}

static __always_inline bool events_wanted(void)
{
	return group_enabled && gate && !want_port && current_wanted();
}

#endif
