// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0
/*
 * Samples: what each processor is doing, so many times a second, with kernel and user stack.
 *
 * The programs run in the interrupt of the sampling clock, in the middle of whatever runs there, so
 * they write to rings of their own: a record that another program has reserved and not yet submitted
 * would hold theirs back.
 */
#include "common.bpf.h"
#include "stack.bpf.h"

struct sample_record {
	struct cpu_sample e;
	struct stacks stacks;
};
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct sample_record);
} sample_scratch SEC(".maps");

/* By way of the task that runs here, since not every kernel gives programs the address of `runqueues`. */
static __always_inline __u32 runnable(void)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();

	if (!bpf_core_field_exists(struct sched_entity, cfs_rq) || !bpf_core_field_exists(struct cfs_rq, rq))
		return ~0U;
	return BPF_CORE_READ(task, se.cfs_rq, rq, nr_running);
}

/* An idle processor says nothing: its samples are counted as filtered, so that the sums still close. */
static __always_inline bool sample_wanted(void)
{
	return group_enabled && gate && !want_port && current_tid() && current_wanted();
}

SEC("perf_event") __probe(cpu_sample, 1, "perf-event")
int cpu_sample__perf(struct bpf_perf_event_data *ctx)
{
	struct sample_record *r;
	__u32 zero = 0, used;

	if (!sample_wanted()) {
		FILTERED(cpu_sample);
		return 0;
	}
	r = bpf_map_lookup_elem(&sample_scratch, &zero);
	if (!r)
		return 0;
	fill_header((struct header *)&r->e, TABLE(cpu_sample), bpf_ktime_get_ns());
	r->e.tid = current_tid();
	r->e.period = ctx->sample_period;
	r->e.runnable = runnable();
	used = add_stack(ctx, &r->stacks, sizeof(r->e), 0, &r->e.kstack, 0);
	used += add_stack(ctx, &r->stacks, sizeof(r->e), used, &r->e.ustack, BPF_F_USER_STACK);
	output(r, TABLE(cpu_sample), sizeof(r->e) + (used & STACKS_MASK));
	return 0;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
