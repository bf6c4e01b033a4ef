/* SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0 */
/* Receives: calls of tcp_recvmsg. */
#ifndef TAPEDECK_SOCK_RECV_H
#define TAPEDECK_SOCK_RECV_H

#include "sock_call.bpf.h"

/* Set before load, from the kernel's type information; 0: that does not have the function. */
const volatile __u32 params_of_tcp_recvmsg = 0;

static __always_inline int recv_end(const struct sock *sk, int ret, __u32 flags, struct pending_call *p)
{
	__u64 who = running_ids(), now;
	struct sock_recv *e;

	WANTED_SOCK(entry, sock_recv, sk, who);
	if (!entry)
		return 0;
	now = bpf_ktime_get_ns();
	if (p && too_short(p->ts, now)) {
		FILTERED(sock_recv);
		return 0;
	}
	e = RESERVE_AT(sock_recv, now);
	if (!e)
		return 0;
	e->tid = who;
	e->sock = entry->id;
	e->ret = ret;
	e->flags = flags;
	e->seq = BPF_CORE_READ((const struct tcp_sock *)sk, copied_seq);
	e->latency = p ? e->ts - p->ts : 0;
	SUBMIT(sock_recv, e);
	return 0;
}

SEC("fentry/tcp_recvmsg") __probe(sock_recv, 1, "fentry") __notes
int BPF_PROG(recv__fentry, struct sock *sk)
{
	call_starts(TABLE(sock_recv), sk, 0, 0);
	return 0;
}

/* Six parameters, five, or four (`nonblock` went away, then `addr_len`): ask, from 5.17 on. */
SEC("fexit/tcp_recvmsg") __probe(sock_recv, 1, "fentry")
int recv__fexit(__u64 *ctx)
{
	const struct sock *sk = (const struct sock *)ctx[0];
	__u64 ret = 0, flags = 0;

	bpf_get_func_ret(ctx, &ret);
	bpf_get_func_arg(ctx, bpf_get_func_arg_cnt(ctx) == 6 ? 4 : 3, &flags);
	return recv_end(sk, ret, flags, end_call(sk));
}

SEC("fentry/tcp_recvmsg") __probe(sock_recv, 2, "fentry") __notes
int BPF_PROG(recv_six__fentry, struct sock *sk)
{
	call_starts(TABLE(sock_recv), sk, 0, 0);
	return 0;
}

SEC("fexit/tcp_recvmsg") __probe(sock_recv, 2, "fentry")
int BPF_PROG(recv_six__fexit, struct sock *sk, void *msg, __u64 len, int nonblock, int flags, int *addr_len,
	     int ret)
{
	return recv_end(sk, ret, flags, end_call(sk));
}

SEC("tp_btf/sock_recv_length") __probe(sock_recv, 3, "tracepoint")
__lacks("sock_recv.latency")
int BPF_PROG(recv__tp, struct sock *sk, int ret, int flags)
{
	return argument_is_tcp(sk) ? recv_end(sk, ret, flags, 0) : 0;
}

/* The flags are the fourth parameter; the fifth where `nonblock` goes before them, up to 5.18. */
SEC("kprobe/tcp_recvmsg") __probe(sock_recv, 4, "kprobe")
int BPF_KPROBE(recv__kprobe, struct sock *sk, void *msg, __u64 len, __u64 fourth, __u64 fifth)
{
	noted_call_starts(TABLE(sock_recv), sk, 0, params_of_tcp_recvmsg == 6 ? fifth : fourth);
	return 0;
}

SEC("kretprobe/tcp_recvmsg") __probe(sock_recv, 4, "kprobe")
int BPF_KRETPROBE(recv__kretprobe, int ret)
{
	const struct sock *sk = sock_of_call();
	struct pending_call *p = sk ? end_call(sk) : 0;

	return p ? recv_end(sk, ret, p->flags, p) : 0;
}

#endif
