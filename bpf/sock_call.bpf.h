/* SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0 */
/* A call on a TCP socket, noted at its entry: what sends and receives share. */
#ifndef TAPEDECK_SOCK_CALL_H
#define TAPEDECK_SOCK_CALL_H

#include "pending.bpf.h"
#include "sock.bpf.h"
#include "threshold.bpf.h"
#include "turn.bpf.h"

/* Notes a call that is to become a row of `table` when it returns; null when there is no space for the note. */
static __always_inline struct pending_call *note_call(__u32 table, const struct sock *sk, __u32 size, __u32 flags)
{
	struct pending_call *p = pending_call();

	count_unreturned(p);
	p = begin_call(p, sk);
	if (p) {
		p->size = size;
		p->flags = flags;
		p->table = table + 1;
	}
	return p;
}

/* Null: not recorded, or no space. */
static __always_inline struct pending_call *call_starts(__u32 table, const struct sock *sk, __u32 size, __u32 flags)
{
	return gate && group_enabled && wanted(running_ids()) ? note_call(table, sk, size, flags) : 0;
}

/* A kretprobe sees the returned value and nothing else: without the note, its call is lost. */
static __always_inline struct pending_call *noted_call_starts(__u32 table, const struct sock *sk, __u32 size,
							      __u32 flags)
{
	struct pending_call *p = 0;

	if (!gate || !group_enabled)
		return 0;
	if (!wanted(running_ids()))
		count_filtered(table);
	else if (!(p = note_call(table, sk, size, flags)))
		count_state_full(table);
	return p;
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
