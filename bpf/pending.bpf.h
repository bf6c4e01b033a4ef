/* SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0 */
/*
 * Calls in flight: what an entry program leaves for the exit program of the same thread.
 *
 * An entry stays in place and is used again by the thread's next call (an insert and a delete per
 * call cost twice as much); `proc` removes it when the thread ends.
 */
#ifndef TAPEDECK_PENDING_H
#define TAPEDECK_PENDING_H

#include "running.bpf.h"
#include "thread.bpf.h"

struct pending_call {
	THREAD;
	__u64 sk;  /* the socket of the call in flight; 0: none */
	__u64 ts;
	__u32 size, seq, flags, exact;
	__u32 table; /* of the call, if its return is to be seen, + 1 */
	__u32 padding;
};
THREADS(pending_calls, struct pending_call);

static __always_inline struct pending_call *pending_call_of(__u32 tid)
{
	return FIND_THREAD(pending_calls, tid);
}

static __always_inline struct pending_call *pending_call(void)
{
	return pending_call_of(running_ids());
}

/* A call begins in the thread's entry `p`, made if there is none; null when the map is full. */
static __always_inline struct pending_call *begin_call(struct pending_call *p, const void *sk)
{
	if (!p)
		p = MAKE_THREAD(pending_calls, running_ids());
	if (p) {
		p->sk = (__u64)sk;
		p->ts = bpf_ktime_get_ns();
		p->exact = 0;
		p->table = 0;
	}
	return p;
}

/*
 * Returns can be missed, and the kernel counts it nowhere: a kretprobe follows only so many calls
 * at a time (counted since 6.7), and a call that is in a function while any other tracer attaches
 * to it, or leaves it, comes back through a trampoline that skips the exit programs. So what is
 * still there when the thread makes its next call, or ends, is a loss.
 */
static __always_inline void count_unreturned(const struct pending_call *p)
{
	if (p && p->sk && p->table)
		count_state_full(p->table - 1);
}

/* The entry of the call on `sk` that now ends, or null if its start was not seen. */
static __always_inline struct pending_call *end_call_of(__u32 tid, const void *sk)
{
	struct pending_call *p = pending_call_of(tid);

	if (!p || p->sk != (__u64)sk)
		return 0;
	p->sk = 0;
	return p;
}

static __always_inline struct pending_call *end_call(const void *sk)
{
	return end_call_of(running_ids(), sk);
}

#endif
