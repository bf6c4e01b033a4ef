/* SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0 */
/* A call on a TCP socket, noted at its entry: what sends and receives share. */
#ifndef TAPEDECK_SOCK_CALL_H
#define TAPEDECK_SOCK_CALL_H

#include "pending.bpf.h"
#include "sock.bpf.h"

static __always_inline struct pending_call *note_call(const struct sock *sk, __u32 size, __u32 flags)
{
	struct pending_call *p = start_call(sk);

	if (p) {
		p->size = size;
		p->flags = flags;
	}
	return p;
}

static __always_inline int call_starts(const struct sock *sk, __u32 size, __u32 flags)
{
	if (gate && group_enabled && current_wanted())
		note_call(sk, size, flags);
	return 0;
}

/* A kretprobe sees the returned value and nothing else: without the note, its call is lost. */
static __always_inline int noted_call_starts(__u32 table, const struct sock *sk, __u32 size, __u32 flags)
{
	struct pending_call *p;

	if (!gate || !group_enabled)
		return 0;
	if (!current_wanted()) {
		count_filtered(table);
		return 0;
	}
	count_unreturned(pending_call());
	p = note_call(sk, size, flags);
	if (p)
		p->table = table + 1;
	else
		count_state_full(table);
	return 0;
}

static __always_inline struct pending_call *call_on(const struct sock *sk)
{
	struct pending_call *p = pending_call();

	return p && p->sk == (__u64)sk ? p : 0;
}

/* All that a kretprobe knows of the socket is what its call's entry noted. */
static __always_inline const struct sock *sock_of_call(void)
{
	struct pending_call *p = pending_call();

	return p ? (const struct sock *)p->sk : 0;
}

#endif
