/* SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0 */
/*
 * What a family keeps of each thread, found by the thread's number: in an array, which the verifier looks up in
 * five instructions, where a hash takes a helper's call, a hash function and a walk along a bucket.
 *
 *	struct open_syscall { THREAD; __u64 ts; };
 *	THREADS(open_syscalls, struct open_syscall);
 *
 *	struct open_syscall *open = FIND_THREAD(open_syscalls, tid);
 *
 * A thread's place is its number's rest; where that is taken, one of the next seven, a stride apart. Numbers are given
 * in sequence, so it seldom is. A thread that finds all eight taken has none: the caller counts that. What a
 * place holds is begun and ended by who is alone with the thread: the thread itself, or who holds its run queue's lock.
 */
#ifndef TAPEDECK_THREAD_H
#define TAPEDECK_THREAD_H

#include "common.bpf.h"

#define THREAD_PLACES (1 << 16)
#define THREAD_TRIES  8
#define THREAD_STRIDE 0x9e37

/* Places beyond this are taken for occupied: for tests of what happens when there is none left. */
const volatile __u32 state_limit = ~0;

/* The head of what is kept. */
#define THREAD                                                                                 \
	__u32 owner;   /* the thread's number + 1; 0: nobody's */                              \
	__u32 claims;  /* 1: somebody's. More: several threads want it in this very moment */ \
	__u32 crowded; /* a thread that belongs here is, or was, in another place */           \
	__u32 unused
struct thread_place {
	THREAD;
};

#define THREADS(name, kind)                        \
	struct {                                   \
		__uint(type, BPF_MAP_TYPE_ARRAY);  \
		__uint(max_entries, THREAD_PLACES); \
		__type(key, __u32);                \
		__type(value, kind);               \
	} name SEC(".maps")

static __always_inline void *thread_place(void *places, __u32 tid, __u32 try)
{
	__u32 index = (tid + try * THREAD_STRIDE) & (THREAD_PLACES - 1);

	return index < state_limit ? bpf_map_lookup_elem(places, &index) : 0;
}

static __always_inline void *find_thread(void *places, __u32 tid)
{
	struct thread_place *place = thread_place(places, tid, 0);

	if (!place || place->owner == tid + 1)
		return place;
	if (__builtin_expect(!place->crowded, 1))
		return 0;
#pragma clang loop unroll(disable)
	for (__u32 try = 1; try < THREAD_TRIES; try++) {
		place = thread_place(places, tid, try);
		if (place && place->owner == tid + 1)
			return place;
	}
	return 0;
}

/*
 * An atomic add whose result nobody gets (as kernels before 5.12 have it) decides: whoever reads 1 after adding 1 was
 * alone, and whoever is not, takes his away again.
 */
static __always_inline bool claim_place(struct thread_place *place)
{
	volatile __u32 *claims = &place->claims;

	if (*claims)
		return false;
	__sync_fetch_and_add(&place->claims, 1);
	if (*claims == 1)
		return true;
	__sync_fetch_and_add(&place->claims, -1);
	return false;
}

/* A place for a thread that has none, all zero; null: there is none left. */
static __always_inline void *make_thread(void *places, __u32 size, __u32 tid)
{
	struct thread_place *first = thread_place(places, tid, 0), *place;

#pragma clang loop unroll(disable)
	for (__u32 try = 0; first && try < THREAD_TRIES; try++) {
		place = thread_place(places, tid, try);
		if (!place || !claim_place(place))
			continue;
		if (try)
			first->crowded = 1;
		__builtin_memset((void *)place + sizeof(*place), 0, size - sizeof(*place));
		barrier();
		place->owner = tid + 1;
		return place;
	}
	return 0;
}

/* The thread has ended, or nothing is to be known of it any more. */
static __always_inline void drop_thread(void *places, __u32 tid)
{
	struct thread_place *place = find_thread(places, tid);

	if (!place)
		return;
	place->owner = 0;
	barrier();
	__sync_fetch_and_add(&place->claims, -1);
}

#define FIND_THREAD(name, tid) find_thread(&name, tid)
#define MAKE_THREAD(name, tid) make_thread(&name, sizeof(*(name).value), tid)
#define DROP_THREAD(name, tid) drop_thread(&name, tid)

#endif
