/* SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0 */
/*
 * Probes that the user names: one interpreter, compiled once, for whatever the command line asks.
 *
 * The object is loaded anew for each probe, with what to fetch in read-only data. The verifier
 * knows such data: it follows this probe's fetches only and drops the rest, so that the loops of
 * named_fetch.bpf.h cost at run time what straight code for this probe would. Neither a compiler nor
 * kernel headers are needed on the host; `capture/named` resolves names to the offsets used here.
 */
#include "named_call.bpf.h"
#include "named_stack.bpf.h"
#include "named_sum.bpf.h"

char LICENSE[] SEC("license") = "Dual MIT/GPL";

/* Of a single hit, or of `call`, which ends. */
static __always_inline void fill(void *ctx, const __u64 *value, const struct call *call, struct hit *hit)
{
	if (call)
		bpf_probe_read_kernel((void *)hit + sizeof(struct header), probe.size - sizeof(struct header),
				      call->record + sizeof(struct header));
	if (call)
		fetch_left(hit->value);
	else
		fill_arguments(ctx, value, hit);
	hit->tid = current_tid();
	hit->function = function_of(ctx);
	hit->unused = 0;
	hit->latency = value[SLOT_LATENCY];
	hit->ret = is_text(&probe.ret) ? fetch_text(ctx, &probe.ret, hit, value) : value[SLOT_RET];
}

/* Put together where it may be longer than it turns out to be. */
static __always_inline void store_with_stacks(void *ctx, const __u64 *value, const struct call *call)
{
	struct named_scratch *scratch = take_scratch();
	struct hit *hit;

	if (!scratch) {
		count_state_full(probe.table);
		return;
	}
	hit = (struct hit *)scratch->record;
	fill(ctx, value, call, hit);
	fill_header((struct header *)hit, probe.table, bpf_ktime_get_ns());
	output(hit, probe.table, probe.size + (add_stacks(ctx, hit) & STACKS_MASK));
	release_scratch(scratch);
}

static __always_inline void store(void *ctx, const __u64 *value, const struct call *call)
{
	struct hit *hit;

	if (probe.kstack || probe.ustack) {
		store_with_stacks(ctx, value, call);
		return;
	}
	hit = reserve(probe.table, probe.size);
	if (!hit)
		return;
	fill(ctx, value, call, hit);
	hit->kstack = hit->ustack = (stack_id){};
	submit(hit, probe.table, probe.size);
}

/* A single hit is a record. */
static __always_inline int record_hit(void *ctx, bool may_sleep)
{
	__u64 value[16] = {};

	if (!gate)
		return 0;
	if (!current_wanted()) {
		count_filtered(probe.table);
		return 0;
	}
	if (decided() == AT_ONCE && thread_left_out())
		return 0;
	fetch_numbers(ctx, value);
	if (!passes(value, false) || !passes(value, true)) {
		count_filtered(probe.table);
		return 0;
	}
	if (decided() != AT_ONCE && thread_left_out())
		return 0;
	if (exhausted())
		return 0;
	if (probe.sum) {
		add_hit(ctx, value);
		return 0;
	}
	if (may_sleep)
		touch_texts(ctx);
	store(ctx, value, 0);
	return 0;
}

/* A call begins: what it was given waits for its end. */
static __always_inline int note_call(void *ctx, bool may_sleep)
{
	__u64 value[16] = {}, stack = stack_of(ctx);
	struct call *call;

	if (!gate)
		return 0;
	if (!current_wanted()) {
		count_filtered(probe.table);
		return 0;
	}
	if (decided() == AT_ONCE && thread_left_out())
		return 0;
	fetch_numbers(ctx, value);
	if (!passes(value, false)) {
		count_filtered(probe.table);
		return 0;
	}
	if (decided() == BY_ARGUMENTS && thread_left_out())
		return 0;
	if (exhausted())
		return 0;
	if (may_sleep)
		touch_texts(ctx);
	call = new_call(key_of(ctx), stack);
	if (!call) {
		count_state_full(probe.table);
		return 0;
	}
	call->stack = stack;
	fill_arguments(ctx, value, (struct hit *)call->record);
	call->ts = bpf_ktime_get_ns();
	return 0;
}

/* … and ends: what it was given, what it returned, and how long it took are one record. */
static __always_inline int end_call(void *ctx)
{
	__u64 value[16] = {}, now = bpf_ktime_get_ns();
	struct call_key key = key_of(ctx);
	struct call *call = ending_call(&key, stack_of(ctx));

	if (!call)
		return 0;
	value[SLOT_RET] = fetch_number(ctx, &probe.ret);
	value[SLOT_LATENCY] = now - call->ts;
	if (value[SLOT_LATENCY] < probe.threshold || !passes(value, true))
		count_filtered(probe.table);
	else if (decided() == AT_END && thread_left_out())
		; /* counted */
	else if (probe.sum)
		add_call(ctx, value, call);
	else
		store(ctx, value, call);
	forget_call(key);
	return 0;
}

SEC("tracepoint")
int hit__tracepoint(void *ctx) { return record_hit(ctx, false); }

SEC("raw_tp")
int hit__raw(void *ctx) { return record_hit(ctx, false); }

SEC("kprobe")
int hit__kprobe(void *ctx) { return record_hit(ctx, false); }

SEC("kprobe")
int note__kprobe(void *ctx) { return note_call(ctx, false); }

SEC("kretprobe")
int end__kprobe(void *ctx) { return end_call(ctx); }

SEC("kprobe.multi")
int hit__multi(void *ctx) { return record_hit(ctx, false); }

SEC("kprobe.multi")
int note__multi(void *ctx) { return note_call(ctx, false); }

SEC("kretprobe.multi")
int end__multi(void *ctx) { return end_call(ctx); }

SEC("perf_event")
int hit__perf(void *ctx) { return record_hit(ctx, false); }

SEC("fentry")
int hit__fentry(void *ctx) { return record_hit(ctx, false); }

SEC("fentry")
int note__fentry(void *ctx) { return note_call(ctx, false); }

SEC("fexit")
int end__fentry(void *ctx) { return end_call(ctx); }

SEC("uprobe.s")
int hit__sleepable(void *ctx) { return record_hit(ctx, true); }

SEC("uprobe.s")
int note__sleepable(void *ctx) { return note_call(ctx, true); }

SEC("uprobe.s")
int end__sleepable(void *ctx) { return end_call(ctx); }

SEC("uprobe.multi")
int hit__umulti(void *ctx) { return record_hit(ctx, false); }

SEC("uprobe.multi")
int note__umulti(void *ctx) { return note_call(ctx, false); }

SEC("uprobe.multi")
int end__umulti(void *ctx) { return end_call(ctx); }

SEC("uprobe.multi.s")
int hit__umulti_sleepable(void *ctx) { return record_hit(ctx, true); }

SEC("uprobe.multi.s")
int note__umulti_sleepable(void *ctx) { return note_call(ctx, true); }

SEC("uprobe.multi.s")
int end__umulti_sleepable(void *ctx) { return end_call(ctx); }
