/* SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0 */
/*
 * Stacks of named probes. Their length is not known before they are read, so the record is put together
 * outside of the ring: in one of a few places that each processor has.
 *
 * User-level probes may be preempted, and tracepoints may interrupt them; so a place is taken before it is
 * used: who adds one and then reads one has it alone, since everybody takes back what they added in vain.
 */
#ifndef TAPEDECK_NAMED_STACK_H
#define TAPEDECK_NAMED_STACK_H

#include "named_fetch.bpf.h"
#include "stack.bpf.h"

#define SCRATCHES 4

struct named_scratch {
	__u64 taken;
	__u8 record[RECORD + sizeof(struct stacks)];
};
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, SCRATCHES);
	__type(key, __u32);
	__type(value, struct named_scratch);
} named_scratches SEC(".maps");

static __always_inline void release_scratch(struct named_scratch *scratch)
{
	__sync_fetch_and_add(&scratch->taken, -1);
}

/* Null: so many probes of this processor are at work at the same time that all are taken. */
static __always_inline struct named_scratch *take_scratch(void)
{
	for (__u32 i = 0; i < SCRATCHES; i++) {
		__u32 index = i;
		struct named_scratch *scratch = bpf_map_lookup_elem(&named_scratches, &index);

		if (!scratch)
			return 0;
		__sync_fetch_and_add(&scratch->taken, 1);
		if (*(volatile __u64 *)&scratch->taken == 1)
			return scratch;
		release_scratch(scratch);
	}
	return 0;
}

/*
 * At a function's first instruction its caller is in no frame yet, and the kernel leaves it out (since 6.12 not
 * where the function begins with `push %rbp` or `endbr64`): then it is put behind the innermost. The
 * stack begins one word later than it has to, so that there is room.
 */
static __always_inline __u32 add_user_stack(void *ctx, struct stacks *stacks, __u32 fixed, __u32 at, stack_id *id)
{
	__u32 used = add_stack(ctx, stacks, fixed, at + 8, id, BPF_F_USER_STACK);
	__u64 *word = (__u64 *)(stacks->bytes + (at & 2047));
	__u64 caller = probe.caller.size ? fetch_number(ctx, &probe.caller) : 0;

	if (caller && used >= 16 && (used < 24 || word[3] != caller)) {
		word[0] = word[1];
		word[1] = word[2];
		word[2] = caller;
		id->off -= 8;
		id->len += 8;
	}
	return used + 8;
}

/* Adds the stacks that are asked for behind the record, and returns their size. */
static __always_inline __u32 add_stacks(void *ctx, struct hit *hit)
{
	struct stacks *stacks = (void *)hit + probe.size;
	__u32 used = 0;

	hit->kstack = hit->ustack = (stack_id){};
	if (probe.kstack)
		used = add_stack(ctx, stacks, probe.size, 0, &hit->kstack, probe.skip);
	if (probe.ustack)
		used += add_user_stack(ctx, stacks, probe.size, used, &hit->ustack);
	return used;
}

#endif
