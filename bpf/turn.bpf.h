/* SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0 */
/*
 * Turns of a connection, paired in the kernel for a trigger on them: from the entry of a turn's first send to the
 * first segment with new data, which is `response` of `analyze tcplat`. Without such a trigger `limit_response` is 0,
 * and the verifier drops all of this.
 */
#ifndef TAPEDECK_TURN_H
#define TAPEDECK_TURN_H

#include "sock.bpf.h"

const volatile __u64 limit_response = 0; /* ns */

struct turn {
	__u64 began; /* 0: nobody waits */
	__u32 tid;
	__u32 newest; /* end of the newest data that came, if any did */
	__u32 any;
	__u32 unused;
};

/* By the socket's address. It takes no memory until used, and has room for as many as `socks`, which counts what it lacks. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 65536);
	__type(key, __u64);
	__type(value, struct turn);
} turns SEC(".maps");

static __always_inline struct turn *turn_on(const struct sock *sk)
{
	__u64 key = (__u64)sk;

	return bpf_map_lookup_elem(&turns, &key);
}

/* A send was entered at `ts`. It begins a turn unless one is waiting. */
static __always_inline void turn_begins(const struct sock *sk, __u32 tid, __u64 ts)
{
	struct turn fresh = { .began = ts, .tid = tid }, *turn;
	__u64 key = (__u64)sk;

	if (!limit_response)
		return;
	turn = turn_on(sk);
	if (!turn) {
		bpf_map_update_elem(&turns, &key, &fresh, BPF_NOEXIST);
	} else if (!turn->began) {
		turn->tid = tid;
		turn->began = ts;
	}
}

/* The send that was entered at `ts` (0: nobody saw that) has returned: one that sent nothing begins no turn. */
static __always_inline void turn_has_sent(const struct sock *sk, __u32 tid, __u64 ts, __s32 ret)
{
	struct turn *turn;

	if (!limit_response)
		return;
	if (!ts && ret > 0)
		turn_begins(sk, tid, bpf_ktime_get_ns());
	if (!ts || ret > 0)
		return;
	turn = turn_on(sk);
	if (turn && turn->began == ts)
		turn->began = 0;
}

static __always_inline void forget_turn(const struct sock *sk)
{
	__u64 key = (__u64)sk;

	if (limit_response)
		bpf_map_delete_elem(&turns, &key);
}

/* Data up to `end` came: when its turn began if that ends it, else 0. */
static __always_inline __u64 turn_ends(struct turn *turn, __u32 end)
{
	__u64 began = turn->began;

	if (turn->any && (__s32)(turn->newest - end) >= 0)
		return 0;
	turn->any = 1;
	turn->newest = end;
	turn->began = 0;
	return began;
}

#endif
