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

/* ---- the same for a task that is not the current one ---- */

static __always_inline __u64 ancestor_of(struct task_struct *task, __u32 level)
{
	struct cgroup *cgroup = BPF_CORE_READ(task, cgroups, dfl_cgrp), *ancestor = 0;
	struct cgroup___until_6_0 *old = (struct cgroup___until_6_0 *)cgroup;
	__u64 id = 0;

	if (level > BPF_CORE_READ(cgroup, level))
		return 0;
	if (bpf_core_field_exists(struct cgroup___until_6_0, ancestor_ids)) {
		bpf_probe_read_kernel(&id, sizeof(id), &old->ancestor_ids[0] + level);
		return id;
	}
	bpf_probe_read_kernel(&ancestor, sizeof(ancestor), &cgroup->ancestors[0] + level);
	return BPF_CORE_READ(ancestor, kn, id);
}

static __always_inline bool comm_of_wanted(struct task_struct *task)
{
	char comm[16];

	bpf_core_read(comm, sizeof(comm), &task->comm);
	for (int i = 0; i < 16; i++) {
		if (comm[i] != want_comm[i])
			return false;
		if (!comm[i])
			break;
	}
	return true;
}

static __always_inline bool task_wanted(struct task_struct *task)
{
	__u32 tgid = BPF_CORE_READ(task, tgid);

	if (tgid == self_tgid)
		return false;
	if (!any_filter)
		return true;
	if (filter_tgid && !tgid_wanted(tgid))
		return false;
	if (filter_uid && BPF_CORE_READ(task, cred, uid.val) != want_uid)
		return false;
	if (want_cgroup && ancestor_of(task, want_cgroup_level) != want_cgroup)
		return false;
	if (want_netns && task_netns(task) != want_netns)
		return false;
	return !filter_comm || comm_of_wanted(task);
}

#endif
