// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0
/*
 * Processes: fork, exec with arguments, exit, rename, and the `task` identity.
 *
 * This family is always loaded, because every other one refers to tasks; without group `proc` it
 * keeps identity and the set of wanted processes, and records no event.
 */
#include "common.bpf.h"
#include "pending.bpf.h"

#define PF_KTHREAD   0x00200000
#define CLONE_THREAD 0x00010000
#define FILE_MAX     255
#define ARGS_MAX     4095
#define ARGS_COUNTED 64

/* Off with --no-args: the arguments then never leave the process. */
const volatile bool with_args = true;

/* A system call's start, until its end. Kept per thread and reused; removed at exit. */
struct pending_exec {
	const char *file;
	const char *const *argv;
};
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, __u32);
	__type(value, struct pending_exec);
} pending_execs SEC(".maps");

struct exec_record {
	struct process_exec e;
	char text[FILE_MAX + 1 + ARGS_MAX + 1];
};
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 2); /* one per program that writes: the one may interrupt the other */
	__type(key, __u32);
	__type(value, struct exec_record);
} exec_scratch SEC(".maps");

/* ---- identity ---- */

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

SEC("iter/task") __probe(task_start, 1, "iterator") __keeps("task")
int task_start__iter(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task;

	if (task)
		define_task(task, 0, false);
	return 0;
}

/* ---- fork ---- */

static __always_inline bool events_wanted(void)
{
	return group_enabled && gate && !want_port && current_wanted();
}

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
	__u32 parent = current_tgid();
	__u8 one = 1;

	if (filter_tgid && bpf_map_lookup_elem(&wanted_tgids, &parent))
		bpf_map_update_elem(&wanted_tgids, &child, &one, BPF_ANY);
}

/*
 * Again, since a fork that is missed would cost all that the child and its descendants do. The kernel
 * skips a program that is already at work on this processor; from 7.0 on the kind of tracepoint below
 * runs with preemption on, so that is the case whenever a task is switched away in the middle of it.
 * This kind is not preempted, but knows no task_struct.
 */
SEC("tracepoint/task/task_newtask") __probe(descendants, 1, "tracepoint") __keeps("task")
int descendants__tp(struct trace_event_raw_task_newtask *ctx)
{
	if (!(ctx->clone_flags & CLONE_THREAD))
		adopt(ctx->pid);
	return 0;
}

SEC("tp_btf/task_newtask") __probe(process_fork, 1, "tracepoint") __keeps("task")
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

/* ---- exec ---- */

/*
 * The new image's arguments lie in one piece in its own memory, each ended by a NUL. The size is
 * bounded for the verifier with masks, which is why the limits are powers of two less one.
 */
static __always_inline __u32 copy_args(struct exec_record *r, __u32 at, struct task_struct *task)
{
	unsigned long start = BPF_CORE_READ(task, mm, arg_start);
	unsigned long end = BPF_CORE_READ(task, mm, arg_end);
	__u32 len = end - start;

	if (len > ARGS_MAX) {
		len = ARGS_MAX;
		r->e.truncated = 1;
	}
	len &= ARGS_MAX;
	if (bpf_probe_read_user(r->text + (at & FILE_MAX), len, (void *)start))
		return 0;
	return len;
}

static __always_inline struct exec_record *start_exec(int ret)
{
	__u32 slot = ret < 0;
	struct exec_record *r = bpf_map_lookup_elem(&exec_scratch, &slot);

	if (!r)
		return 0;
	__builtin_memset(&r->e, 0, sizeof(r->e));
	fill_header((struct header *)&r->e, TABLE(process_exec), bpf_ktime_get_ns());
	r->e.tid = current_tid();
	r->e.ret = ret;
	return r;
}

static __always_inline void finish_exec(struct exec_record *r, __u32 file_len, __u32 args_len)
{
	__u32 size = sizeof(r->e) + (file_len & FILE_MAX) + (args_len & ARGS_MAX);

	r->e.file.off = sizeof(r->e);
	r->e.file.len = file_len ? file_len - 1 : 0; /* the helper counts the NUL */
	r->e.args.off = sizeof(r->e) + file_len;
	r->e.args.len = args_len;
	output(r, TABLE(process_exec), size);
}

SEC("tp_btf/sched_process_exec") __probe(process_exec, 1, "tracepoint") __keeps("task")
int BPF_PROG(process_exec__tp, struct task_struct *task, int old_pid, struct linux_binprm *bprm)
{
	struct exec_record *r;
	long file_len;
	__u32 args_len = 0;

	define_task(task, 0, false);
	if (!group_enabled)
		return 0;
	if (!events_wanted()) {
		FILTERED(process_exec);
		return 0;
	}
	r = start_exec(0);
	if (!r)
		return 0;
	r->e.argc = BPF_CORE_READ(bprm, argc);
	file_len = bpf_probe_read_kernel_str(r->text, FILE_MAX, BPF_CORE_READ(bprm, filename));
	if (file_len < 0)
		file_len = 0;
	if (with_args)
		args_len = copy_args(r, file_len, task);
	finish_exec(r, file_len, args_len);
	return 0;
}

/* A failed exec leaves the caller's memory as it was: what it asked for is read at the return. */
static __always_inline int enter_exec(const char *file, const char *const *argv)
{
	struct pending_exec p = { .file = file, .argv = argv };
	__u32 tid = current_tid();

	if (events_wanted())
		bpf_map_update_elem(&pending_execs, &tid, &p, BPF_ANY);
	return 0;
}

static __always_inline __u32 copy_failed_args(struct exec_record *r, __u32 at, const char *const *argv)
{
	__u32 used = 0;

	for (int i = 0; i < ARGS_COUNTED; i++) {
		const char *arg = 0;
		long n;

		if (bpf_probe_read_user(&arg, sizeof(arg), &argv[i]) || !arg)
			return used;
		if (used > ARGS_MAX - 256)
			break;
		n = bpf_probe_read_user_str(r->text + (at & FILE_MAX) + (used & ARGS_MAX), 256, arg);
		if (n < 0)
			return used;
		used += n;
		r->e.argc++;
	}
	r->e.truncated = 1;
	return used;
}

static __always_inline int exit_exec(long ret)
{
	__u32 tid = current_tid(), args_len = 0;
	struct pending_exec *p = bpf_map_lookup_elem(&pending_execs, &tid);
	struct exec_record *r;
	long file_len;

	if (!p) {
		if (ret < 0 && group_enabled)
			FILTERED(process_exec);
		return 0;
	}
	if (ret < 0 && (r = start_exec(ret))) {
		file_len = bpf_probe_read_user_str(r->text, FILE_MAX, p->file);
		if (file_len < 0)
			file_len = 0;
		if (with_args)
			args_len = copy_failed_args(r, file_len, p->argv);
		finish_exec(r, file_len, args_len);
	}
	bpf_map_delete_elem(&pending_execs, &tid);
	return 0;
}

SEC("tracepoint/syscalls/sys_enter_execve") __probe(exec_failed, 1, "tracepoint")
int execve_enter(struct trace_event_raw_sys_enter *ctx)
{
	return enter_exec((const char *)ctx->args[0], (const char *const *)ctx->args[1]);
}

SEC("tracepoint/syscalls/sys_enter_execveat") __probe(exec_failed, 1, "tracepoint")
int execveat_enter(struct trace_event_raw_sys_enter *ctx)
{
	return enter_exec((const char *)ctx->args[1], (const char *const *)ctx->args[2]);
}

SEC("tracepoint/syscalls/sys_exit_execve") __probe(exec_failed, 1, "tracepoint")
int execve_exit(struct trace_event_raw_sys_exit *ctx)
{
	return exit_exec(ctx->ret);
}

SEC("tracepoint/syscalls/sys_exit_execveat") __probe(exec_failed, 1, "tracepoint")
int execveat_exit(struct trace_event_raw_sys_exit *ctx)
{
	return exit_exec(ctx->ret);
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
	bpf_map_delete_elem(&pending_calls, &tid);
	bpf_map_delete_elem(&pending_execs, &tid);
	if (filter_tgid && last)
		bpf_map_delete_elem(&wanted_tgids, &tgid);
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
