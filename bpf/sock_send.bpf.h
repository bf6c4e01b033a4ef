/* SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0 */
/* Sends: calls of tcp_sendmsg. */
#ifndef TAPEDECK_SOCK_SEND_H
#define TAPEDECK_SOCK_SEND_H

#include "sock_call.bpf.h"

#define NOT_KNOWN 0xffffffff

/* A send is entered; `p` is its note, null when there is no space for one. */
static __always_inline int send_starts(const struct sock *sk, struct pending_call *p)
{
	if (p)
		turn_begins(sk, running_ids(), p->ts);
	return 0;
}

/* The first segment of a call: the task holds the socket's lock, so write_seq is where it begins. */
static __always_inline void send_locked(const struct sock *sk, struct pending_call *p)
{
	if (!p)
		return;
	p->seq = BPF_CORE_READ((const struct tcp_sock *)sk, write_seq);
	p->exact = 1;
}

static __always_inline void fill_send(struct sock_send *e, const struct sock *sk, struct pending_call *p)
{
	if (p) {
		e->latency = e->ts - p->ts;
		e->requested = p->size;
		e->exact = p->exact;
	} else {
		e->latency = 0;
		e->requested = e->ret ? NOT_KNOWN : 0; /* the loop that tells does not run for nothing */
		e->exact = 0;
	}
	if (e->exact)
		e->seq = p->seq;
	else
		e->seq = BPF_CORE_READ((const struct tcp_sock *)sk, write_seq) - (e->ret > 0 ? e->ret : 0);
}

/* `noted`: the call's note is yet to be looked up, which an unwanted one need not be. */
static __always_inline int send_end(const struct sock *sk, int ret, __u32 flags, struct pending_call *p,
				    bool noted)
{
	__u64 who = running_ids(), now;
	struct sock_send *e;

	WANTED_SOCK(entry, sock_send, sk, who);
	if (!entry)
		return 0;
	if (noted)
		p = end_call_of(who, sk);
	turn_has_sent(sk, who, p ? p->ts : 0, ret);
	now = bpf_ktime_get_ns();
	if (p && too_short(p->ts, now)) {
		FILTERED(sock_send);
		return 0;
	}
	e = RESERVE_AT(sock_send, now);
	if (!e)
		return 0;
	e->tid = who;
	e->sock = entry->id;
	e->ret = ret;
	e->flags = flags;
	fill_send(e, sk, p);
	SUBMIT(sock_send, e);
	return 0;
}

SEC("fentry/tcp_sendmsg") __probe(sock_send, 1, "fentry") __notes
int BPF_PROG(send__fentry, struct sock *sk, struct msghdr *msg, __u64 size)
{
	return send_starts(sk, call_starts(TABLE(sock_send), sk, size, BPF_CORE_READ(msg, msg_flags)));
}

SEC("fentry/tcp_sendmsg_locked") __probe(sock_send, 1, "fentry") __notes
int BPF_PROG(send_locked__fentry, struct sock *sk)
{
	send_locked(sk, call_on(sk));
	return 0;
}

SEC("fexit/tcp_sendmsg") __probe(sock_send, 1, "fentry")
int BPF_PROG(send__fexit, struct sock *sk, struct msghdr *msg, __u64 size, int ret)
{
	struct pending_call *p = end_call(sk);

	return send_end(sk, ret, p ? p->flags : 0, p, false);
}

SEC("kprobe/tcp_sendmsg") __probe(sock_send, 3, "kprobe")
int BPF_KPROBE(send__kprobe, struct sock *sk, struct msghdr *msg, __u64 size)
{
	return send_starts(sk, noted_call_starts(TABLE(sock_send), sk, size, BPF_CORE_READ(msg, msg_flags)));
}

SEC("kprobe/tcp_sendmsg_locked") __probe(sock_send, 3, "kprobe") __notes
int BPF_KPROBE(send_locked__kprobe, struct sock *sk)
{
	send_locked(sk, call_on(sk));
	return 0;
}

SEC("kretprobe/tcp_sendmsg") __probe(sock_send, 3, "kprobe")
int BPF_KRETPROBE(send__kretprobe, int ret)
{
	const struct sock *sk = sock_of_call();
	struct pending_call *p = sk ? end_call(sk) : 0;

	return p ? send_end(sk, ret, p->flags, p, false) : 0;
}

/* Once per buffer segment inside the copy loop: only the first one of a call is its start. */
SEC("tp_btf/tcp_sendmsg_locked") __probe(sock_send, 2, "tracepoint") __notes
int BPF_PROG(send_locked__tp, const struct sock *sk, const struct msghdr *msg)
{
	__u64 who = running_ids();
	struct pending_call *p;

	if (!gate || !group_enabled || !argument_is_tcp(sk) || !wanted(who))
		return 0;
	p = pending_call_of(who);
	if (p && p->sk == (__u64)sk)
		return 0;
	p = begin_call(p, sk);
	if (p)
		p->size = BPF_CORE_READ(msg, msg_iter.count);
	send_locked(sk, p);
	return send_starts(sk, p);
}

SEC("tp_btf/sock_send_length") __probe(sock_send, 2, "tracepoint")
int BPF_PROG(send__tp, struct sock *sk, int ret, int flags)
{
	return argument_is_tcp(sk) ? send_end(sk, ret, flags, 0, true) : 0;
}

SEC("tp_btf/sock_send_length") __probe(sock_send, 4, "tracepoint")
__lacks("sock_send.requested,sock_send.latency")
int BPF_PROG(send_only_end__tp, struct sock *sk, int ret, int flags)
{
	return argument_is_tcp(sk) ? send_end(sk, ret, flags, 0, false) : 0;
}

#endif
