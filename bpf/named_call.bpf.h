/* SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0 */
/*
 * Calls in flight of a named probe: what a call was given waits here, by thread, function and depth, until
 * the call returns.
 */
#ifndef TAPEDECK_NAMED_CALL_H
#define TAPEDECK_NAMED_CALL_H

#include "named_fetch.bpf.h"

/* A call in flight, by thread, probe and depth: so that recursion is right. */
struct call_key {
	__u32 tid, probe, function, depth;
};
struct call {
	__u64 ts, stack;
	__u8 record[RECORD];
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct call_key);
	__type(value, struct call);
} named_calls SEC(".maps");

/* How deep a thread is in a function: the number of its calls in flight. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct call_key);
	__type(value, __u32);
} named_depths SEC(".maps");

/* Never written: what a new call begins as. It is filled in place, since a program may be preempted. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct call);
} named_none SEC(".maps");

static __always_inline struct call_key key_of(void *ctx)
{
	struct call_key key = { .tid = current_tid(), .probe = probe.table, .function = function_of(ctx) };

	return key;
}

static __always_inline __u64 stack_of(void *ctx)
{
	__u64 stack = 0;

	if (probe.stack == STACK_CONTEXT)
		return (__u64)ctx;
	if (probe.stack >= 0)
		bpf_probe_read_kernel(&stack, sizeof(stack), ctx + probe.stack);
	return stack;
}

/*
 * A call that is noted and never returns has its frame below whatever comes after it: longjmp, an exception, a
 * return probe that the kernel had no room for (which it counts as missed). So where a call begins, those
 * around it lie above; and the one that ends lies where the stack is now, or up to two words below
 * (x86 has taken the return address off by then). All further below is over.
 *
 * A kernel function that is probed by a trampoline returns always, and is not seen to where another tracer has come or
 * gone meanwhile (see pending.bpf.h), which nobody else counts. Its context has one place per call.
 */
static __always_inline bool is_over(const struct call *call, __u64 stack, bool ending)
{
	__u64 slack = probe.stack == STACK_CONTEXT ? 0 : 16;

	return ending ? call->stack + slack < stack : call->stack <= stack;
}

/* The depth without calls that are over, in a call on `stack` that begins or ends. */
static __always_inline __u32 live_depth(struct call_key key, __u32 depth, __u64 stack, bool ending)
{
	for (int i = 0; i < 16 && depth; i++) {
		struct call *last;

		key.depth = depth - 1;
		last = bpf_map_lookup_elem(&named_calls, &key);
		if (last && (!stack || !is_over(last, stack, ending)))
			break;
		if (last && probe.stack == STACK_CONTEXT)
			count_state_full(probe.table);
		bpf_map_delete_elem(&named_calls, &key);
		depth--;
	}
	return depth;
}

/* Space for a call that begins now, and notes how deep it is. */
static __always_inline struct call *new_call(struct call_key key, __u64 stack)
{
	__u32 *known = bpf_map_lookup_elem(&named_depths, &key), zero = 0, depth;
	void *none = bpf_map_lookup_elem(&named_none, &zero);
	struct call_key depth_key = key;

	if (!none)
		return 0;
	key.depth = known ? live_depth(key, *known, stack, false) : 0;
	depth = key.depth + 1;
	if (bpf_map_update_elem(&named_calls, &key, none, BPF_ANY))
		return 0;
	if (bpf_map_update_elem(&named_depths, &depth_key, &depth, BPF_ANY)) {
		bpf_map_delete_elem(&named_calls, &key);
		return 0;
	}
	return bpf_map_lookup_elem(&named_calls, &key);
}

/* So deep is the thread now. */
static __always_inline void set_depth(struct call_key key, __u32 depth)
{
	if (depth)
		bpf_map_update_elem(&named_depths, &key, &depth, BPF_ANY);
	else
		bpf_map_delete_elem(&named_depths, &key);
}

/*
 * The call that ends on `stack`, and its key; null where it was not noted when it began: filtered, left out, or
 * there was no room, which is counted. Then what lies above `stack` is a call around it.
 */
static __always_inline struct call *ending_call(struct call_key *key, __u64 stack)
{
	struct call_key depth_key = *key;
	__u32 *known = bpf_map_lookup_elem(&named_depths, &depth_key), depth;
	struct call *call;

	if (!known)
		return 0;
	depth = live_depth(*key, *known, stack, true);
	if (depth != *known)
		set_depth(depth_key, depth);
	key->depth = depth - 1;
	call = depth ? bpf_map_lookup_elem(&named_calls, key) : 0;
	return call && (!stack || call->stack <= stack) ? call : 0;
}

/* It has returned. */
static __always_inline void forget_call(struct call_key key)
{
	__u32 depth = key.depth;

	bpf_map_delete_elem(&named_calls, &key);
	key.depth = 0;
	set_depth(key, depth);
}

#endif
