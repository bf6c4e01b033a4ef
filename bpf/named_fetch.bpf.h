/* SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0 */
/*
 * What a named probe is told, and the values that it gets: arguments are all read the same way, whatever
 * the attach type: a chain of pointers that starts at the program's context (registers, tracepoint
 * fields or typed arguments, each at an offset that user space knows).
 */
#ifndef TAPEDECK_NAMED_FETCH_H
#define TAPEDECK_NAMED_FETCH_H

#include "sample.bpf.h"

/* Where a call's frame is, if not at an offset: not known, or where the context is, which is part of it. */
enum { STACK_UNKNOWN = -1, STACK_CONTEXT = -2 };

#define ARGS  8
#define HOPS  5
#define TESTS 4

enum { NUMBER, TEXT, DATA_LOC, CONSTANT, AT_RETURN, BYTES, ADDRESS, PORT };
enum { EQ, NE, LT, LE, GT, GE };
enum { SLOT_RET = ARGS, SLOT_LATENCY, SLOTS };
/* How hits are added up: how many there are, and of which sum; or by power of two of the value too. */
enum { SUM_NOT, SUM_COUNT, SUM_BY_SLOT };

/* Follow `hops` pointers, each `offset[i]` past the one before; the value is at offset[hops]. */
struct fetch {
	__s32 offset[HOPS];
	__u32 text;  /* where in the record its text begins */
	__u16 limit; /* bytes of text at most */
	__u8 hops;
	__u8 kind;
	__u8 size; /* of a number; of BYTES: the value that says how many, from 1 on, or 0 */
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
	struct fetch caller; /* the return address, where no frame holds it yet */
	struct test test[TESTS];
	__u64 threshold; /* ns; calls that take less are not recorded */
	__u64 most;      /* hits in each tick; 0: all */
	__s32 stack;     /* offset of the stack pointer in the context, or STACK_… */
	__u32 size;      /* of a record, room for all text included */
	__u16 table;     /* number of its table */
	__u8 args, tests;
	__u8 cookie; /* the attach cookie says which of several functions it is */
	__u8 kstack, ustack;
	__u8 skip; /* frames of the kernel's stack that are ours */
	__u8 sum;  /* hits are added up, not recorded */
	__u8 slot; /* of these: of which value the power of two is kept, and the sum; SLOTS: of none */
	__u8 unused[6];
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
	stack_id kstack, ustack; /* 0 where they are not asked for */
	__u64 value[];
};

#define RECORD 640

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

/* The families of `struct sockaddr` whose addresses are read. */
enum { FAMILY_INET = 2, FAMILY_INET6 = 10 };

/* Both have the port behind the family. */
static __always_inline __u64 port_at(__u64 from, bool user)
{
	__u16 head[2] = {};

	read_memory(head, sizeof(head), from, user);
	return head[0] == FAMILY_INET || head[0] == FAMILY_INET6 ? __builtin_bswap16(head[1]) : (__u32)-1;
}

/* Sixteen bytes, as `ip6_t` has them; all 0 in other families. */
static __always_inline void read_address(void *to, __u64 from, bool user)
{
	__u8 address[16] = {};
	__u16 family = 0;

	read_memory(&family, sizeof(family), from, user);
	if (family == FAMILY_INET6)
		read_memory(address, sizeof(address), from + 8, user);
	if (family == FAMILY_INET) {
		address[10] = address[11] = 0xff;
		read_memory(address + 12, 4, from + 4, user);
	}
	bpf_probe_read_kernel(to, sizeof(address), address);
}

static __always_inline __u64 fetch_number(void *ctx, const volatile struct fetch *fetch)
{
	__u64 value = 0;

	if (fetch->kind == CONSTANT)
		return (__s64)fetch->offset[0];
	if (fetch->kind == AT_RETURN)
		read_memory(&value, sizeof(value), follow(ctx, fetch), fetch->hops && fetch->user);
	if (fetch->kind == PORT)
		return port_at(follow(ctx, fetch), fetch->user);
	if (fetch->kind != NUMBER)
		return value;
	read_memory(&value, fetch->size & 15, follow(ctx, fetch), fetch->hops && fetch->user);
	if (fetch->swap)
		value = swapped(value, fetch->size);
	if (fetch->sign) {
		__u32 unused_bits = 64 - 8 * (fetch->size & 15);

		value = (__s64)(value << unused_bits) >> unused_bits;
	}
	return value;
}

/* As many bytes as another value says, or as there may be; none where not all of them can be read. */
static __always_inline __u64 read_bytes(void *to, __u64 from, const volatile struct fetch *fetch, const __u64 *value)
{
	__u64 length = fetch->size ? value[(fetch->size - 1) & 15] : fetch->limit;
	long error;

	if (length > fetch->limit)
		length = fetch->limit;
	if (fetch->user)
		error = bpf_probe_read_user(to, length, (void *)from);
	else
		error = bpf_probe_read_kernel(to, length, (void *)from);
	return error ? 0 : length;
}

/* Puts the text into its place in the record; the value is where that is, and how long. */
static __always_inline __u64 fetch_text(void *ctx, const volatile struct fetch *fetch, void *record, const __u64 *value)
{
	__u64 from = follow(ctx, fetch);
	void *to = record + fetch->text;
	__u32 loc = 0;
	long length;

	if (fetch->kind == BYTES)
		return fetch->text | read_bytes(to, from, fetch, value) << 16;
	if (fetch->kind == ADDRESS) {
		read_address(to, from, fetch->user);
		return fetch->text | 16 << 16;
	}
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

/* What the call left where its arguments point to; until now their values are the addresses. */
static __always_inline void fetch_left(__u64 *left)
{
	for (int i = 0; i < ARGS; i++) {
		__u64 value = 0;

		if (i >= probe.args)
			break;
		if (probe.arg[i].kind != AT_RETURN)
			continue;
		read_memory(&value, probe.arg[i].size & 15, left[i], probe.arg[i].user);
		left[i] = value;
	}
}

static __always_inline bool is_text(const volatile struct fetch *fetch)
{
	return fetch->kind == TEXT || fetch->kind == DATA_LOC || fetch->kind == BYTES || fetch->kind == ADDRESS;
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

/* When it is known whether a hit passes all conditions. */
enum { AT_ONCE, BY_ARGUMENTS, AT_END };
static __always_inline int decided(void)
{
	int when = probe.threshold ? AT_END : probe.tests ? BY_ARGUMENTS : AT_ONCE;

	for (int i = 0; i < TESTS; i++) {
		if (i >= probe.tests)
			break;
		if (probe.test[i].slot >= ARGS)
			when = AT_END;
	}
	return when;
}

/* Asked once that is known: counts are scaled by what the governor left out, so hits that would not count are not in it. */
static __always_inline bool thread_left_out(void)
{
	if (!sample_mask || !left_out(current_tid())) /* who is current takes a call */
		return false;
	count_left_out(probe.table);
	return true;
}

/* Of this tick, on all processors. Two of them may both begin it: then some more are recorded. */
__u64 counted_tick = 0, counted_hits = 0;

/* Whether the probe has had all the hits that it may have in this tick; the others are counted as left out. */
static __always_inline bool exhausted(void)
{
	__u64 tick;

	if (!probe.most)
		return false;
	tick = bpf_ktime_get_ns() >> TICK_SHIFT;
	if (counted_tick != tick) {
		counted_tick = tick;
		counted_hits = 0;
	}
	if (counted_hits >= probe.most) {
		count_left_out(probe.table);
		return true;
	}
	__sync_fetch_and_add(&counted_hits, 1);
	return false;
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
			hit->value[i] = fetch_text(ctx, &probe.arg[i], hit, value);
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
		if (is_text(&probe.arg[i]) && probe.arg[i].hops && probe.arg[i].user)
			bpf_copy_from_user(&byte, 1, (void *)follow(ctx, &probe.arg[i]));
	}
}

#endif
