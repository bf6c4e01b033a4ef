/* SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0 */
/*
 * Hits of a named probe that are added up instead of recorded: by process, function, arguments, how the call
 * ended, power of two of one value, and stacks. Rows are those of aggregate.bpf.h; the map has keys as long as this
 * probe's arguments and stacks take (capture/named/probe.rs sets that), and goes by the name of the probe's table.
 *
 * A stack is in the key as a hash of its words, which are kept beside the sums once per interval. That two stacks of an
 * interval share 64 bits is less likely than that the memory that holds them is wrong.
 */
#ifndef TAPEDECK_NAMED_SUM_H
#define TAPEDECK_NAMED_SUM_H

#include "aggregate.bpf.h"
#include "named_call.bpf.h"
#include "named_stack.bpf.h"

/* The same as the row of capture/named/table.rs, without its head. */
struct sum_key {
	__u64 since;
	__u32 tgid, function;
	__u32 slot, unused;
	__s64 ret;
	__u64 value[ARGS + 2]; /* then the stacks that are asked for */
};
struct named_sums {
	__u64 hits, sum, longest;
};
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(max_entries, 16384);
	__uint(key_size, sizeof(struct sum_key));
	__uint(value_size, sizeof(struct named_sums));
} named_sums SEC(".maps");

/* What stands for a stack in an interval. */
struct stack_key {
	__u64 since, hash;
};
#define WORDS (FRAMES + 2) /* whose stack it is, and the caller that the kernel leaves out */
struct kept_stack {
	__u64 first; /* when it was met */
	__u64 size;  /* of the words that are used */
	__u64 word[WORDS];
};
#define KEPT_HEAD __builtin_offsetof(struct kept_stack, word)
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, struct stack_key);
	__type(value, struct kept_stack);
} named_stacks SEC(".maps");

/* The finalizer of splitmix64 (Steele, Lea, Flood 2014), word by word. */
static __always_inline __u64 hash_of(const struct kept_stack *kept)
{
	__u64 hash = kept->size;

	for (__u32 i = 0; i < WORDS; i++) {
		if (i * 8 >= kept->size)
			break;
		hash = (hash ^ kept->word[i]) * 0xbf58476d1ce4e5b9;
		hash = (hash ^ (hash >> 27)) * 0x94d049bb133111eb;
		hash ^= hash >> 31;
	}
	return hash;
}

/* Keeps the stack at `id`, before which there is room for the head; false: there are too many. */
static __always_inline bool keep_stack(struct stacks *stacks, stack_id id, __u64 *hash)
{
	struct kept_stack *kept = (void *)stacks->bytes + ((id.off - KEPT_HEAD) & 15);
	struct stack_key key = { .since = interval };

	if (!id.len)
		return true; /* a kernel thread has none of its own */
	kept->first = bpf_ktime_get_ns();
	kept->size = id.len;
	*hash = key.hash = hash_of(kept);
	if (bpf_map_lookup_elem(&named_stacks, &key))
		return true;
	bpf_map_update_elem(&named_stacks, &key, kept, BPF_NOEXIST);
	return bpf_map_lookup_elem(&named_stacks, &key); /* maybe by another processor */
}

static __always_inline bool keep_stacks(void *ctx, struct stacks *stacks, struct sum_key *key)
{
	stack_id id = {};

	if (probe.kstack) {
		add_stack(ctx, stacks, 0, KEPT_HEAD, &id, probe.skip);
		if (!keep_stack(stacks, id, &key->value[probe.args]))
			return false;
	}
	if (!probe.ustack)
		return true;
	add_user_stack(ctx, stacks, 0, KEPT_HEAD, &id);
	return keep_stack(stacks, id, &key->value[probe.args + probe.kstack]);
}

/* Adds what stands for the stacks to a key; false: there was no room for them. */
static __always_inline bool add_stack_keys(void *ctx, struct sum_key *key)
{
	struct named_scratch *scratch = take_scratch();
	bool kept;

	if (!scratch)
		return false;
	kept = keep_stacks(ctx, (struct stacks *)scratch->record, key);
	release_scratch(scratch);
	return kept;
}

/* Error numbers as they are, of all else the sign: what a call returned is one of few. */
static __always_inline __s64 outcome_of(__s64 ret)
{
	if (!probe.ret.sign)
		return ret != 0;
	if (ret < 0)
		return ret < -4095 ? -4096 : ret;
	return ret > 0;
}

static __always_inline bool is_negative(__u64 value)
{
	bool sign = probe.slot == SLOT_RET ? probe.ret.sign : probe.slot < ARGS && probe.arg[probe.slot & 7].sign;

	return sign && (__s64)value < 0;
}

/*
 * User-level probes may be preempted, by one that adds to the same sums: so all but the largest value, which is then
 * one of two that came at the same moment, are added in one instruction.
 */
static __always_inline void add_hit(void *ctx, const __u64 *value)
{
	struct sum_key key = { .since = interval, .tgid = current_tgid(), .function = function_of(ctx), .slot = NO_SLOT };
	struct named_sums none = {}, *sums;
	__u64 measured = probe.slot < SLOTS ? value[probe.slot & 15] : 0;
	bool counts = probe.slot < SLOTS && !is_negative(measured);

	key.ret = outcome_of(value[SLOT_RET]);
	if (counts && probe.sum == SUM_BY_SLOT)
		key.slot = log2_of(measured);
	for (int i = 0; i < ARGS; i++) {
		if (i >= probe.args)
			break;
		key.value[i] = i == probe.slot ? 0 : value[i];
	}
	if ((probe.kstack || probe.ustack) && !add_stack_keys(ctx, &key)) {
		count_state_full(probe.table);
		return;
	}
	sums = add_up(&named_sums, &key, &none, probe.table);
	if (!sums)
		return;
	__sync_fetch_and_add(&sums->hits, 1);
	if (!counts)
		return;
	__sync_fetch_and_add(&sums->sum, measured);
	if (measured > sums->longest)
		sums->longest = measured;
}

/* A call that ends: what it was given has waited in `call`. */
static __always_inline void add_call(void *ctx, __u64 *value, const struct call *call)
{
	const struct hit *begun = (const struct hit *)call->record;

	for (int i = 0; i < ARGS; i++) {
		if (i >= probe.args)
			break;
		value[i] = begun->value[i];
	}
	fetch_left(value);
	add_hit(ctx, value);
}

#endif
