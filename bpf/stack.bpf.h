/* SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0 */
/*
 * Stacks in records.
 *
 * The frames travel in the record, and the recorder numbers each distinct stack: that is exact, while the
 * kernel's own table of stacks drops one of two that share a slot, and must be read before it is reused.
 * What trails the record is, per stack, a word that says whose it is (0: the kernel's, else the process
 * id, which tells the recorder where to look the addresses up), and the addresses, innermost first.
 *
 *	struct sample_record { struct cpu_sample e; struct stacks stacks; };
 *	used = add_stack(ctx, &r->stacks, sizeof(r->e), 0, &r->e.kstack, 0);
 *	used += add_stack(ctx, &r->stacks, sizeof(r->e), used, &r->e.ustack, BPF_F_USER_STACK);
 *	output(r, TABLE(cpu_sample), sizeof(r->e) + (used & STACKS_MASK));
 */
#ifndef TAPEDECK_STACK_H
#define TAPEDECK_STACK_H

/* As many as the kernel follows unless kernel.perf_event_max_stack is raised; a stack of so many is cut. */
#define FRAMES      127
#define STACKS_MASK 4095
/* In the first word: there was no room for more frames. */
#define STACK_CUT   (1ULL << 63)

/* Set while recording: the governor (capture/governor.rs) has no time for stacks. */
__u64 drop_stacks __live = 0;

/* Twice a word and the frames, in room that the verifier can bound with masks. */
struct stacks {
	char bytes[STACKS_MASK + 1];
};

/* Adds a stack behind the `at` bytes that are there, and returns its size; 0: there is none. */
static __always_inline __u32 add_stack(void *ctx, struct stacks *stacks, __u32 fixed, __u32 at, stack_id *id, __u64 flags)
{
	char *to = stacks->bytes + (at & 2047);
	long size = bpf_get_stack(ctx, to + 8, FRAMES * 8, flags);

	id->off = 0;
	id->len = 0;
	if (size <= 0)
		return 0;
	*(__u64 *)to = flags & BPF_F_USER_STACK ? current_tgid() : 0;
	id->off = fixed + at;
	id->len = size + 8;
	return size + 8;
}

#endif
