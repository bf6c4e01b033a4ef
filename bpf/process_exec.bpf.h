/* SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0 */
/*
 * Execs, with the file and its arguments: those that succeeded from the new image, those that failed
 * from the caller's memory.
 */
#ifndef TAPEDECK_PROCESS_EXEC_H
#define TAPEDECK_PROCESS_EXEC_H

#include "task.bpf.h"

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

	if (filter_tgid)
		want_from_now(current_tgid());
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

static __always_inline void record_failed(long ret, const char *file, const char *const *argv)
{
	struct exec_record *r = start_exec(ret);
	__u32 args_len = 0;
	long file_len;

	if (!r)
		return;
	file_len = bpf_probe_read_user_str(r->text, FILE_MAX, file);
	if (file_len < 0)
		file_len = 0;
	if (with_args)
		args_len = copy_failed_args(r, file_len, argv);
	finish_exec(r, file_len, args_len);
}

static __always_inline int failed_exec(long ret, const char *file, const char *const *argv)
{
	if (events_wanted())
		record_failed(ret, file, argv);
	else if (group_enabled)
		FILTERED(process_exec);
	return 0;
}

static __always_inline int exit_exec(long ret)
{
	__u32 tid = current_tid();
	struct pending_exec *p = bpf_map_lookup_elem(&pending_execs, &tid);

	if (!p) {
		if (ret < 0 && group_enabled)
			FILTERED(process_exec);
		return 0;
	}
	if (ret < 0)
		record_failed(ret, p->file, p->argv);
	bpf_map_delete_elem(&pending_execs, &tid);
	return 0;
}

#if defined(__TARGET_ARCH_x86)
#define SYSCALL(name) "__x64_sys_" name
#else
#define SYSCALL(name) "__arm64_sys_" name
#endif

/* At the return the caller's registers are as they were, unless the call succeeded. */
SEC("fexit/" SYSCALL("execve")) __probe(exec_failed, 1, "fentry") __fills(process_exec)
int BPF_PROG(execve__fexit, struct pt_regs *regs, long ret)
{
	return ret < 0 ? failed_exec(ret, (const char *)PT_REGS_PARM1_CORE_SYSCALL(regs),
				     (const char *const *)PT_REGS_PARM2_CORE_SYSCALL(regs))
		       : 0;
}

SEC("fexit/" SYSCALL("execveat")) __probe(exec_failed, 1, "fentry") __fills(process_exec)
int BPF_PROG(execveat__fexit, struct pt_regs *regs, long ret)
{
	return ret < 0 ? failed_exec(ret, (const char *)PT_REGS_PARM2_CORE_SYSCALL(regs),
				     (const char *const *)PT_REGS_PARM3_CORE_SYSCALL(regs))
		       : 0;
}

SEC("kprobe/" SYSCALL("execve")) __probe(exec_failed, 2, "kprobe") __fills(process_exec)
int BPF_KPROBE(execve__kprobe, struct pt_regs *regs)
{
	return enter_exec((const char *)PT_REGS_PARM1_CORE_SYSCALL(regs),
			  (const char *const *)PT_REGS_PARM2_CORE_SYSCALL(regs));
}

SEC("kprobe/" SYSCALL("execveat")) __probe(exec_failed, 2, "kprobe") __fills(process_exec)
int BPF_KPROBE(execveat__kprobe, struct pt_regs *regs)
{
	return enter_exec((const char *)PT_REGS_PARM2_CORE_SYSCALL(regs),
			  (const char *const *)PT_REGS_PARM3_CORE_SYSCALL(regs));
}

SEC("kretprobe/" SYSCALL("execve")) __probe(exec_failed, 2, "kprobe") __fills(process_exec)
int BPF_KRETPROBE(execve__kretprobe, long ret)
{
	return exit_exec(ret);
}

SEC("kretprobe/" SYSCALL("execveat")) __probe(exec_failed, 2, "kprobe") __fills(process_exec)
int BPF_KRETPROBE(execveat__kretprobe, long ret)
{
	return exit_exec(ret);
}

/*
 * The last resort: while any program is on a system-call tracepoint, each system call of the machine takes the
 * kernel's slow path, 60 ns here.
 */
SEC("tracepoint/syscalls/sys_enter_execve") __probe(exec_failed, 3, "tracepoint") __fills(process_exec)
int execve_enter(struct trace_event_raw_sys_enter *ctx)
{
	return enter_exec((const char *)ctx->args[0], (const char *const *)ctx->args[1]);
}

SEC("tracepoint/syscalls/sys_enter_execveat") __probe(exec_failed, 3, "tracepoint") __fills(process_exec)
int execveat_enter(struct trace_event_raw_sys_enter *ctx)
{
	return enter_exec((const char *)ctx->args[1], (const char *const *)ctx->args[2]);
}

SEC("tracepoint/syscalls/sys_exit_execve") __probe(exec_failed, 3, "tracepoint") __fills(process_exec)
int execve_exit(struct trace_event_raw_sys_exit *ctx)
{
	return exit_exec(ctx->ret);
}

SEC("tracepoint/syscalls/sys_exit_execveat") __probe(exec_failed, 3, "tracepoint") __fills(process_exec)
int execveat_exit(struct trace_event_raw_sys_exit *ctx)
{
	return exit_exec(ctx->ret);
}

#endif
