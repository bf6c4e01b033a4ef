// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0
/*
 * What a recorded call is made of, piece by piece: each program does one thing at each system call's entry, so what it
 * takes over `entry`, which does nothing, is the price of that thing on this machine.
 */
#include "rec.bpf.h"

struct state {
	__u64 queue, counts[64];
};
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct state);
} states SEC(".maps");

struct place {
	__u64 owner, ts, nr;
};
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1 << 16);
	__type(key, __u32);
	__type(value, struct place);
} places SEC(".maps");

/* What is read must be used, or the compiler leaves the reading out. */
#define USE(value)                              \
	do {                                    \
		volatile __u64 __used = (value); \
		(void)__used;                   \
	} while (0)

static __always_inline struct state *this_state(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&states, &zero);
}

SEC("tp_btf/sys_enter")
int BPF_PROG(on_entry)
{
	return 0;
}

SEC("tp_btf/sys_exit")
int BPF_PROG(on_return)
{
	return 0;
}

/* Who runs: asked. */
SEC("tp_btf/sys_enter")
int BPF_PROG(on_asked)
{
	USE(bpf_get_current_pid_tgid());
	return 0;
}

/* Who runs: read, as bpf/running.bpf.h does. */
SEC("tp_btf/sys_enter")
int BPF_PROG(on_read)
{
	struct state *state = this_state();
	struct task_struct *task;

	if (!state)
		return 0;
	if (!state->queue)
		state->queue = (__u64)BPF_CORE_READ((struct task_struct *)bpf_get_current_task(), se.cfs_rq, rq);
	task = bpf_core_cast(bpf_core_cast((void *)state->queue, struct rq)->curr, struct task_struct);
	USE((__u64)task->tgid << 32 | (__u32)task->pid);
	return 0;
}

SEC("tp_btf/sys_enter")
int BPF_PROG(on_clock)
{
	USE(bpf_ktime_get_ns());
	return 0;
}

SEC("tp_btf/sys_enter")
int BPF_PROG(on_place, struct pt_regs *regs, long nr)
{
	__u32 index = nr & 0xffff;
	struct place *place = bpf_map_lookup_elem(&places, &index);

	if (place && place->owner != 1)
		place->nr = nr;
	return 0;
}

SEC("tp_btf/sys_enter")
int BPF_PROG(on_count, struct pt_regs *regs, long nr)
{
	struct state *state = this_state();

	if (state)
		__sync_fetch_and_add(&state->counts[nr & 63], 1);
	return 0;
}

/* Without the clock, which has a program of its own. */
SEC("tp_btf/sys_enter")
int BPF_PROG(on_record, struct pt_regs *regs, long nr)
{
	__u32 index = bpf_get_smp_processor_id() & ring_mask;
	void *ring = bpf_map_lookup_elem(&rings, &index);
	struct rec_syscall *e = ring ? bpf_ringbuf_reserve(ring, sizeof(*e), 0) : 0;

	if (!e)
		return 0;
	e->ts = e->kind = e->cpu = e->tid = 0;
	e->latency = e->ret = e->nr = nr;
	e->errno = 0;
	SUBMIT(e);
	return 0;
}
