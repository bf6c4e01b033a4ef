/* SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0 */
/*
 * Hits of a named probe that are added up instead of recorded: by process, function, arguments, how the call
 * ended, and power of two of one value. Rows are those of aggregate.bpf.h; the map has keys as long as this
 * probe's arguments take (capture/named/probe.rs sets that), and goes by the name of the probe's table.
 */
#ifndef TAPEDECK_NAMED_SUM_H
#define TAPEDECK_NAMED_SUM_H

#include "aggregate.bpf.h"
#include "named_call.bpf.h"

/* The same as the row of capture/named/table.rs, without its head. */
struct sum_key {
	__u64 since;
	__u32 tgid, function;
	__u32 slot, unused;
	__s64 ret;
	__u64 value[ARGS];
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
