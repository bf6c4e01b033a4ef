/* SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0 */
/*
 * Events that are added up in the kernel, where each as a record would cost too much.
 *
 * A table `struct NAME { AGGREGATE; keys…; sums…; }` has a map agg_NAME, declared with the first sum:
 *
 *	AGGREGATE_MAP(NAME, first_sum);
 *	…
 *	struct NAME row = { .since = interval, keys };
 *	struct NAME_sums *sums = ADD_UP(NAME, first_sum, &row);
 *	if (sums) { … }
 *
 * The interval's begin is the first part of the key. The recorder moves `interval` on, waits until
 * every program that saw the old one has ended, and takes the rows of the old one out: no count falls
 * between two intervals, and no program waits. Sums are per processor, so nothing is shared.
 */
#ifndef TAPEDECK_AGGREGATE_H
#define TAPEDECK_AGGREGATE_H

#include "common.bpf.h"

/* Begin of the interval; written by the recorder. */
__u64 interval __live = 0;

struct aggregate_head {
	AGGREGATE;
};
#define AGGREGATE_KEY __builtin_offsetof(struct aggregate_head, since)

#define AGGREGATE_MAP(name, first_sum)                                                                   \
	struct {                                                                                         \
		__uint(type, BPF_MAP_TYPE_PERCPU_HASH);                                                  \
		__uint(max_entries, 16384);                                                              \
		__uint(key_size, __builtin_offsetof(struct name, first_sum) - AGGREGATE_KEY);            \
		__uint(value_size, sizeof(struct name) - __builtin_offsetof(struct name, first_sum));    \
	} agg_##name SEC(".maps")

/* The sums of the row's key on this processor, made if need be; null, and counted, when the map is full. */
#define ADD_UP(name, first_sum, row) \
	add_up(&agg_##name, (void *)&(row)->since, &(row)->first_sum, TABLE(name))

/* What programs cost is estimated by the event, and rows of sums are few: see capture/cost.rs. */
static __always_inline void count_added(void)
{
	struct cpu_state *state = this_cpu();

	if (state)
		__sync_fetch_and_add(&state->added, 1);
}

/* Where a value's power of two is part of a key: the key of those that have none. */
#define NO_SLOT 255

static __always_inline __u32 log2_of(__u64 value)
{
	__u32 log = 0;

	for (int shift = 32; shift; shift /= 2) {
		if (value >> shift) {
			value >>= shift;
			log += shift;
		}
	}
	return log;
}

static __always_inline void *add_up(void *map, const void *key, const void *zero, __u32 table)
{
	void *sums = bpf_map_lookup_elem(map, key);

	if (!sums) {
		bpf_map_update_elem(map, key, zero, BPF_NOEXIST);
		sums = bpf_map_lookup_elem(map, key);
	}
	if (sums)
		count_added();
	else
		count_state_full(table);
	return sums;
}

#endif
