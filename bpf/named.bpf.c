/* SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0 */
/*
 * Probes that the user names: one interpreter, compiled once, for whatever the command line asks.
 *
 * The object is loaded anew for each probe, with what to fetch in read-only data. The verifier
 * knows such data: it follows this probe's fetches only and drops the rest, so that the loops
 * below cost at run time what straight code for this probe would. Neither a compiler nor kernel
 * headers are needed on the host; `capture/named` resolves names to the offsets used here.
 *
 * Arguments are all read the same way, whatever the attach type: a chain of pointers that starts
 * at the program's context (registers, tracepoint fields or typed arguments, each at an offset
 * that user space knows).
 */
#include "common.bpf.h"

char LICENSE[] SEC("license") = "Dual MIT/GPL";

#define ARGS  8
#define HOPS  5
#define TESTS 4

enum { NUMBER, TEXT, DATA_LOC, CONSTANT };
enum { EQ, NE, LT, LE, GT, GE };
enum { SLOT_RET = ARGS, SLOT_LATENCY, SLOTS };

/* Follow `hops` pointers, each `offset[i]` past the one before; the value is at offset[hops]. */
struct fetch {
	__s32 offset[HOPS];
	__u32 text;  /* where in the record its text begins */
	__u16 limit; /* bytes of text at most */
	__u8 hops;
	__u8 kind;
	__u8 size; /* of a number */
	__u8 user; /* beyond the context it is the process's memory */
	__u8 swap; /* big-endian */
	__u8 sign;
};

struct test {
	__u64 value;
	__u8 slot, op, sign;
	__u8 unused[5];
};

struct probe {
	struct fetch arg[ARGS], ret;
	struct test test[TESTS];
	__u64 threshold; /* ns; calls that take less are not recorded */
	__s32 stack;     /* offset of the stack pointer in the context; negative: not known */
	__u32 size;      /* of a record, room for all text included */
	__u16 table;     /* number of its table */
	__u8 args, tests;
	__u8 cookie; /* the attach cookie says which of several functions it is */
	__u8 unused[3];
};

const volatile struct probe probe = {};

/* What a record of such a table begins with; as many values as there are arguments, then text. */
struct hit {
	EVENT;
	task_id tid;
	__u32 function;
	__u32 unused __skip;
	ns_t latency;
	__u64 ret;
	__u64 value[];
};

#define RECORD 640

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

static __always_inline void read_memory(void *to, __u32 size, __u64 from, bool user)
{
	if (user)
		bpf_probe_read_user(to, size, (void *)from);
	else
		bpf_probe_read_kernel(to, size, (void *)from);
}

/* Where the last pointer leads. What cannot be read is null, and so is all behind it. */
static __always_inline __u64 follow(void *ctx, const volatile struct fetch *fetch)
{
	__u64 at = (__u64)ctx;

	for (int hop = 0; hop < HOPS - 1; hop++) {
		__u64 next = 0;

		if (hop >= fetch->hops)
			break;
		read_memory(&next, sizeof(next), at + fetch->offset[hop], hop && fetch->user);
		at = next;
	}
	return at + fetch->offset[fetch->hops];
}

static __always_inline __u64 swapped(__u64 value, __u32 size)
{
	if (size == 2)
		return __builtin_bswap16(value);
	return size == 4 ? __builtin_bswap32(value) : __builtin_bswap64(value);
}

static __always_inline __u64 fetch_number(void *ctx, const volatile struct fetch *fetch)
{
	__u64 value = 0;

	if (fetch->kind == CONSTANT)
		return (__s64)fetch->offset[0];
	if (fetch->kind != NUMBER)
		return 0;
	read_memory(&value, fetch->size & 15, follow(ctx, fetch), fetch->hops && fetch->user);
	if (fetch->swap)
		value = swapped(value, fetch->size);
	if (fetch->sign) {
		__u32 unused_bits = 64 - 8 * (fetch->size & 15);

		value = (__s64)(value << unused_bits) >> unused_bits;
	}
	return value;
}

/* Puts the text into its place in the record; the value is where that is, and how long. */
static __always_inline __u64 fetch_text(void *ctx, const volatile struct fetch *fetch, void *record)
{
	__u64 from = follow(ctx, fetch);
	void *to = record + fetch->text;
	__u32 loc = 0;
	long length;

	if (fetch->kind == DATA_LOC) {
		bpf_probe_read_kernel(&loc, sizeof(loc), (void *)from);
		from = (__u64)ctx + (loc & 0xffff);
	}
	if (fetch->hops && fetch->user)
		length = bpf_probe_read_user_str(to, fetch->limit, (void *)from);
	else
		length = bpf_probe_read_kernel_str(to, fetch->limit, (void *)from);
	return fetch->text | (__u64)(length > 1 ? length - 1 : 0) << 16;
}

static __always_inline bool is_text(const volatile struct fetch *fetch)
{
	return fetch->kind == TEXT || fetch->kind == DATA_LOC;
}

static __always_inline bool holds(const volatile struct test *test, __u64 value)
{
	__s64 difference = test->sign ? ((__s64)value > (__s64)test->value) - ((__s64)value < (__s64)test->value)
				      : (value > test->value) - (value < test->value);

	switch (test->op) {
	case EQ: return difference == 0;
	case NE: return difference != 0;
	case LT: return difference < 0;
	case LE: return difference <= 0;
	case GT: return difference > 0;
	default: return difference >= 0;
	}
}

/* All tests that are about the arguments, or all that are about the call's end. */
static __always_inline bool passes(const __u64 *value, bool at_end)
{
	for (int i = 0; i < TESTS; i++) {
		if (i >= probe.tests)
			break;
		if ((probe.test[i].slot >= ARGS) == at_end && !holds(&probe.test[i], value[probe.test[i].slot & 15]))
			return false;
	}
	return true;
}

static __always_inline __u32 function_of(void *ctx)
{
	return probe.cookie ? bpf_get_attach_cookie(ctx) : 0;
}

static __always_inline void fetch_numbers(void *ctx, __u64 *value)
{
	for (int i = 0; i < ARGS; i++) {
		if (i >= probe.args)
			break;
		value[i] = fetch_number(ctx, &probe.arg[i]);
	}
}

static __always_inline void fill_arguments(void *ctx, const __u64 *value, struct hit *hit)
{
	for (int i = 0; i < ARGS; i++) {
		if (i >= probe.args)
			break;
		if (is_text(&probe.arg[i]))
			hit->value[i] = fetch_text(ctx, &probe.arg[i], hit);
		else
			hit->value[i] = value[i];
	}
}

/*
 * A program that may sleep has the kernel load the pages that texts begin in: constants that the
 * process has not used yet are not in memory. Before the record is reserved, which all wait for.
 */
static __always_inline void touch_texts(void *ctx)
{
	for (int i = 0; i < ARGS; i++) {
		char byte;

		if (i >= probe.args)
			break;
		if (probe.arg[i].kind == TEXT && probe.arg[i].hops && probe.arg[i].user)
			bpf_copy_from_user(&byte, 1, (void *)follow(ctx, &probe.arg[i]));
	}
}

/* A single hit is a record. */
static __always_inline int record_hit(void *ctx, bool may_sleep)
{
	__u64 value[16] = {};
	struct hit *hit;

	if (!gate)
		return 0;
	fetch_numbers(ctx, value);
	if (!current_wanted() || !passes(value, false) || !passes(value, true)) {
		count_filtered(probe.table);
		return 0;
	}
	if (may_sleep)
		touch_texts(ctx);
	hit = reserve(probe.table, probe.size);
	if (!hit)
		return 0;
	hit->tid = current_tid();
	hit->function = function_of(ctx);
	hit->unused = 0;
	hit->latency = 0;
	hit->ret = 0;
	fill_arguments(ctx, value, hit);
	submit(hit, probe.table, probe.size);
	return 0;
}

static __always_inline struct call_key key_of(void *ctx)
{
	struct call_key key = { .tid = current_tid(), .probe = probe.table, .function = function_of(ctx) };

	return key;
}

static __always_inline __u64 stack_of(void *ctx)
{
	__u64 stack = 0;

	if (probe.stack >= 0)
		bpf_probe_read_kernel(&stack, sizeof(stack), ctx + probe.stack);
	return stack;
}

/*
 * The depth without calls that never returned (longjmp, an exception, a return probe that the
 * kernel had no room for, and which it counts as missed): their frames lie below ours, where
 * nothing of an outer call can be.
 */
static __always_inline __u32 live_depth(struct call_key key, __u32 depth, __u64 stack)
{
	for (int i = 0; i < 16 && depth; i++) {
		struct call *outer;

		key.depth = depth - 1;
		outer = bpf_map_lookup_elem(&named_calls, &key);
		if (outer && (!stack || outer->stack > stack))
			break;
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
	key.depth = known ? live_depth(key, *known, stack) : 0;
	depth = key.depth + 1;
	if (bpf_map_update_elem(&named_calls, &key, none, BPF_ANY))
		return 0;
	if (bpf_map_update_elem(&named_depths, &depth_key, &depth, BPF_ANY)) {
		bpf_map_delete_elem(&named_calls, &key);
		return 0;
	}
	return bpf_map_lookup_elem(&named_calls, &key);
}

/* A call begins: what it was given waits for its end. */
static __always_inline int note_call(void *ctx, bool may_sleep)
{
	__u64 value[16] = {}, stack = stack_of(ctx);
	struct call *call;

	if (!gate)
		return 0;
	fetch_numbers(ctx, value);
	if (!current_wanted() || !passes(value, false)) {
		count_filtered(probe.table);
		return 0;
	}
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
	struct call_key depth_key = key_of(ctx), key = depth_key;
	__u64 value[16] = {}, now = bpf_ktime_get_ns();
	__u32 *depth = bpf_map_lookup_elem(&named_depths, &depth_key);
	struct call *call;
	struct hit *hit;

	if (!depth || !*depth)
		return 0; /* filtered, or begun before we were there */
	key.depth = *depth - 1;
	call = bpf_map_lookup_elem(&named_calls, &key);
	if (!call)
		return 0;
	value[SLOT_RET] = fetch_number(ctx, &probe.ret);
	value[SLOT_LATENCY] = now - call->ts;
	if (value[SLOT_LATENCY] < probe.threshold || !passes(value, true)) {
		count_filtered(probe.table);
		goto forget;
	}
	hit = reserve(probe.table, probe.size);
	if (!hit)
		goto forget;
	bpf_probe_read_kernel((void *)hit + sizeof(struct header), probe.size - sizeof(struct header),
			      call->record + sizeof(struct header));
	hit->tid = key.tid;
	hit->function = key.function;
	hit->unused = 0;
	hit->latency = value[SLOT_LATENCY];
	hit->ret = is_text(&probe.ret) ? fetch_text(ctx, &probe.ret, hit) : value[SLOT_RET];
	submit(hit, probe.table, probe.size);
forget:
	bpf_map_delete_elem(&named_calls, &key);
	if (key.depth)
		bpf_map_update_elem(&named_depths, &depth_key, &key.depth, BPF_ANY);
	else
		bpf_map_delete_elem(&named_depths, &depth_key);
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
