// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0
/* What `rec` and `pieces` share: rings, the filter, and what rec.c expects of an object. */
#ifndef REC_BPF_H
#define REC_BPF_H

#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>
#include "rec.h"

const volatile __u32 ring_mask = 0;

struct ring {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 20);
};
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 64);
	__type(key, __u32);
	__array(values, struct ring);
} rings SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__type(key, __u32);
	__type(value, __u8);
} wanted SEC(".maps");

__u64 lost = 0;

/* `who` is what bpf_get_current_pid_tgid() says: asked once per hook, since a helper's call is a fifth of a record. */
static __always_inline bool is_wanted(__u64 who)
{
	__u32 tgid = who >> 32;

	return bpf_map_lookup_elem(&wanted, &tgid) != 0;
}

struct head {
	HEAD;
};

static __always_inline void *reserve(__u16 kind, __u32 size, __u64 who)
{
	__u32 cpu = bpf_get_smp_processor_id(), index = cpu & ring_mask;
	void *ring = bpf_map_lookup_elem(&rings, &index);
	struct head *h;

	if (!ring)
		return 0;
	h = bpf_ringbuf_reserve(ring, size, 0);
	if (!h) {
		__sync_fetch_and_add(&lost, 1);
		return 0;
	}
	h->ts = bpf_ktime_get_ns();
	h->kind = kind;
	h->cpu = cpu;
	h->tid = who;
	return h;
}

#define SUBMIT(e) bpf_ringbuf_submit(e, BPF_RB_NO_WAKEUP)

/* Always there, since descendants are wanted too. */
SEC("tp_btf/task_newtask")
int BPF_PROG(on_follow, struct task_struct *task)
{
	__u64 who = bpf_get_current_pid_tgid();
	__u32 tgid = task->tgid;
	__u8 one = 1;

	if (is_wanted(who))
		bpf_map_update_elem(&wanted, &tgid, &one, BPF_ANY);
	return 0;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";

#endif
