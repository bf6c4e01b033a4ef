/* SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0 */
/* Accepts: connections that a task took from a listener. */
#ifndef TAPEDECK_SOCK_ACCEPT_H
#define TAPEDECK_SOCK_ACCEPT_H

#include "sock.bpf.h"

static __always_inline int accepted(const struct sock *sk, int fd)
{
	struct sock_accept *e;

	if (!sk || !is_tcp(sk))
		return 0;
	WANTED_SOCK(entry, sock_accept, sk, running_ids());
	if (!entry)
		return 0;
	if (entry->side != SIDE_SERVER) {
		entry->side = SIDE_SERVER;
		define_sock(sk, entry, false);
	}
	if (task_filter) /* a listener from before the start may show itself only now */
		note_listener(sk, true);
	e = RESERVE(sock_accept);
	if (!e)
		return 0;
	e->tid = current_tid();
	e->sock = entry->id;
	e->fd = fd;
	SUBMIT(sock_accept, e);
	return 0;
}

SEC("fexit/inet_csk_accept") __probe(sock_accept, 1, "fentry")
__lacks("sock_accept.fd")
int accept__fexit(__u64 *ctx)
{
	__u64 ret = 0;

	bpf_get_func_ret(ctx, &ret);
	return accepted((const struct sock *)ret, -1);
}

/* Before 5.17 nobody can be asked for the return value, but it follows the parameters: four at that time. */
SEC("fexit/inet_csk_accept") __probe(sock_accept, 2, "fentry")
__lacks("sock_accept.fd")
int BPF_PROG(accept_four__fexit, struct sock *sk, int flags, int *err, bool kern, const struct sock *ret)
{
	return accepted(ret, -1);
}

SEC("kretprobe/inet_csk_accept") __probe(sock_accept, 3, "kprobe")
__lacks("sock_accept.fd")
int BPF_KRETPROBE(accept__kretprobe, const struct sock *sk)
{
	return accepted(sk, -1);
}

/* From a descriptor of the current task to its socket: at the call's exit, when the file is there. */
static __always_inline const struct sock *sock_of_fd(int fd)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	struct file **table = BPF_CORE_READ(task, files, fdt, fd);
	struct file *file = 0;

	if (bpf_probe_read_kernel(&file, sizeof(file), &table[fd]) || !file)
		return 0;
	return sock_of_file(file);
}

/*
 * The last resort, although only these know the descriptor: while any program is on a system-call tracepoint, each
 * system call of the machine takes the kernel's slow path, 60 ns here.
 */
SEC("tracepoint/syscalls/sys_exit_accept4") __probe(sock_accept, 4, "tracepoint")
int accept4__tp(struct trace_event_raw_sys_exit *ctx)
{
	return ctx->ret < 0 ? 0 : accepted(sock_of_fd(ctx->ret), ctx->ret);
}

SEC("tracepoint/syscalls/sys_exit_accept") __probe(sock_accept, 4, "tracepoint")
int accept__tp(struct trace_event_raw_sys_exit *ctx)
{
	return ctx->ret < 0 ? 0 : accepted(sock_of_fd(ctx->ret), ctx->ret);
}

#endif
