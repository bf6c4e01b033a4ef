/* SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0 */
/*
 * What every family shares: the rings, the ledger, the filters, and the way a program says which
 * probe it serves.
 *
 * A program either puts a record into its processor's ring or counts why not. It never waits,
 * never wakes the reader for one event, and never reads a string on a hot path.
 */
#ifndef TAPEDECK_COMMON_H
#define TAPEDECK_COMMON_H

#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>
#include "event.h"

/*
 * A field by one load: the kernel lets a program follow any address as a type that it names (6.2), and
 * reads zero where that leads nowhere, as the helper does whose call costs ten times as much. Before
 * that, libbpf's own way; the verifier drops whichever is not to be.
 */
#undef BPF_CORE_READ
#define BPF_CORE_READ(src, a, ...)                                                       \
	(bpf_ksym_exists(bpf_rdonly_cast)                                                \
		 ? ___arrow(bpf_core_cast(src, typeof(*(src))), a, ##__VA_ARGS__)        \
		 : ({                                                                    \
			   ___type((src), a, ##__VA_ARGS__) __value;                     \
			   BPF_CORE_READ_INTO(&__value, (src), a, ##__VA_ARGS__);        \
			   __value;                                                      \
		   }))

/* The value of a pointer as a number, which it must be where a function of its own takes it. */
#define ADDRESS(src, a, ...)                                            \
	({                                                              \
		__u64 __address = 0;                                    \
		BPF_CORE_READ_INTO(&__address, (src), a, ##__VA_ARGS__); \
		__address;                                              \
	})

/*
 * A probe is a question that a family can answer ("which sends happen?"); a variant is one way to
 * attach it: a set of programs with the same probe name and rank. The loader takes the variant of
 * the lowest rank that loads and attaches, and writes what it got into the trace. `kind` is what
 * `--attach PROBE=KIND` names. A variant that cannot fill a column lists it in __lacks: the trace
 * then says that the column is absent, so nobody reads a zero as a measurement.
 */
#define __probe(probe, rank, kind) __tag("probe:" #probe ":" #rank ":" kind)
/* Filled from elsewhere, by `capture/procfs.rs`, where no program of the probe can be loaded. */
#define __otherwise(kind)          __tag("otherwise:" kind)
#define __lacks(columns)           __tag("lacks:" columns)
/* Only notes a call's start: if the kernel misses a hit, no event is lost, only what the note adds to it. */
#define __notes                    __tag("notes")
/* It fills a table of another name than the probe's. */
#define __fills(table)             __tag("fills:" #table)
/*
 * The filters learn from this program: the knob says which of them. Where the kernel misses a hit, events of any table
 * may be missing that the filter then rejects, or never sees: their counts are lower bounds. Several programs that feed
 * one knob with the same news stand in for each other: what matters is what all of them missed.
 */
#define __feeds(knob)              __tag("feeds:" #knob)
/* This probe keeps an identity table: it is attached whenever a recorded table refers to that. */
#define __keeps(identity)          __tag("keeps:" identity)

/* Set before load; the verifier then drops the branches that a filter not in use would take. */
const volatile __u8 table_number[1024] = {};  /* BTF id of the struct -> number of its table + 1 */
const volatile __u8 ring_of[4096] = {};       /* processor -> its ring; neighbours share where there are few */
const volatile __u32 ring_first = 0;          /* families that sample have a set of rings of their own */
const volatile __u64 wake_mask = 0xfffff;     /* a forced wakeup each time this many bytes went in */
const volatile __u32 self_tgid = 0;           /* the recorder does not record itself */
const volatile bool group_enabled = true;     /* false: this family only keeps identity */
const volatile bool count_only = false;       /* a dry run: count what would be stored */
const volatile bool any_filter = false;       /* some filter is set */
const volatile bool task_filter = false;      /* … that is about tasks, not sockets or namespaces */
const volatile bool filter_tgid = false;
const volatile bool filter_comm = false;
const volatile bool filter_uid = false;
const volatile char want_comm[16] = {};
const volatile __u32 want_uid = 0;
const volatile __u32 want_tid = 0;
const volatile __u64 want_cgroup = 0;
const volatile __u32 want_cgroup_level = 0;
const volatile __u32 want_netns = 0;
const volatile __u16 want_port = 0;

/* What the recorder sets while it records: apart from what programs write, since it is written as a whole. */
#define __live SEC(".data.live")

/* The moment when the recorder, with everything attached, opened it; before that only identity is kept. */
__u64 gate __live = 0;

/* ---- maps; the same name in two families is the same map ---- */

struct ring {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 20);
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 1);
	__type(key, __u32);
	__array(values, struct ring);
} rings SEC(".maps");

/* The ledger's slots: exact per tick (2^30 ns) for as long as the reader is at most 7 ticks late. */
#define TABLES     64
#define TICKS      8
#define TICK_SHIFT 30

struct tally {
	__u64 stored, ring_full, state_full;
};
struct cpu_state {
	__u64 ring_bytes;
	__u64 queue; /* where this processor's run queue is; 0: not known yet (running.bpf.h) */
	__u64 added; /* events that no row of their own tells of (aggregate.bpf.h) */
	/*
	 * Without ticks: to pick one would take a clock read, five times the cost of the whole
	 * filter. Exact in total, and as of the moment of reading per interval.
	 */
	__u64 filtered[TABLES];
	__u64 left_out[TABLES]; /* by the governor (sample.bpf.h), or a bound of a named probe */
	struct tally tally[TABLES][TICKS];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct cpu_state);
} cpu_states SEC(".maps");

/*
 * Processes that --pid or -- COMMAND selected; descendants join at fork. One byte for each number that
 * the kernel may give a process (up to 2^22): an array is looked up in three instructions, a hash in a
 * hundred. Bytes, not bits, since setting one must not disturb its neighbours.
 */
#define BLOCK_SHIFT 6
/* A COMMAND's process is the recorder's own code until it executes COMMAND. */
enum { NOT_WANTED, WANTED, WANTED_FROM_EXEC };
struct tgid_block {
	__u8 wanted[1 << BLOCK_SHIFT];
};
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1 << (22 - BLOCK_SHIFT));
	__type(key, __u32);
	__type(value, struct tgid_block);
} wanted_tgids SEC(".maps");

/* ---- small helpers ---- */

#define TABLE(name) (table_number[bpf_core_type_id_local(struct name) & 1023] - 1)

static __always_inline struct cpu_state *this_cpu(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&cpu_states, &zero);
}

static __always_inline __u32 current_tgid(void)
{
	return bpf_get_current_pid_tgid() >> 32;
}

static __always_inline __u32 current_tid(void)
{
	return (__u32)bpf_get_current_pid_tgid();
}

static __always_inline __u8 *tgid_mark(__u32 tgid)
{
	__u32 index = tgid >> BLOCK_SHIFT;
	struct tgid_block *block = bpf_map_lookup_elem(&wanted_tgids, &index);

	return block ? &block->wanted[tgid & ((1 << BLOCK_SHIFT) - 1)] : 0;
}

static __always_inline bool tgid_wanted(__u32 tgid)
{
	__u8 *mark = tgid_mark(tgid);

	return mark && *mark == WANTED;
}

/* COMMAND, until it is what was asked for. */
static __always_inline bool tgid_awaited(__u32 tgid)
{
	__u8 *mark = filter_tgid ? tgid_mark(tgid) : 0;

	return mark && *mark == WANTED_FROM_EXEC;
}

static __always_inline void want_tgid(__u32 tgid, bool wanted)
{
	__u8 *mark = tgid_mark(tgid);

	if (mark)
		*mark = wanted ? WANTED : NOT_WANTED;
}

static __always_inline void want_from_now(__u32 tgid)
{
	__u8 *mark = tgid_mark(tgid);

	if (mark && *mark == WANTED_FROM_EXEC)
		*mark = WANTED;
}

static __always_inline __u32 task_netns(struct task_struct *task)
{
	return BPF_CORE_READ(task, nsproxy, net_ns, ns.inum);
}

/*
 * A number that nobody else gets, without an atomic add that returns it (the kernel has that from
 * 5.12 on): who reads n - 1, adds one and reads n was alone with n, because of two who did so the
 * second would have read more. Who was not alone tries again. 0: it was never alone.
 */
static __always_inline __u32 unique_id(volatile __u32 *last)
{
	__u32 before;

	for (int i = 0; last && i < 16; i++) {
		before = *last;
		__sync_fetch_and_add(last, 1);
		if (*last == before + 1)
			return before + 1;
	}
	return 0;
}

/* ---- the ledger: every attempt ends in exactly one of these four ---- */

static __always_inline void count_filtered(__u32 table)
{
	struct cpu_state *state = this_cpu();

	if (state && gate && table < TABLES)
		__sync_fetch_and_add(&state->filtered[table], 1);
}

/* Without ticks, as filters: the governor takes its steps when the ledger is read. */
static __always_inline void count_left_out(__u32 table)
{
	struct cpu_state *state = this_cpu();

	if (state && gate && table < TABLES)
		__sync_fetch_and_add(&state->left_out[table], 1);
}

static __always_inline struct tally *tally_of(struct cpu_state *state, __u32 table, __u64 ts)
{
	return &state->tally[table & (TABLES - 1)][(ts >> TICK_SHIFT) & (TICKS - 1)];
}

static __always_inline void count_state_full(__u32 table)
{
	struct cpu_state *state = this_cpu();

	if (state && gate)
		__sync_fetch_and_add(&tally_of(state, table, bpf_ktime_get_ns())->state_full, 1);
}

/* ---- records ---- */

struct header {
	EVENT;
};

static __always_inline void *this_ring(void)
{
	__u32 index = ring_first + ring_of[bpf_get_smp_processor_id() & (sizeof(ring_of) - 1)];

	return bpf_map_lookup_elem(&rings, &index);
}

/*
 * Submits are silent: waking the reader for each costs 30 times the record. The reader polls, and
 * is woken once per `wake_mask` bytes, so that a burst after a quiet time cannot overrun the ring.
 */
static __always_inline __u64 wakeup_flag(struct cpu_state *state, __u32 size)
{
	__u64 before = state->ring_bytes, after = before + size + 8;

	state->ring_bytes = after;
	return (before ^ after) & ~wake_mask ? BPF_RB_FORCE_WAKEUP : BPF_RB_NO_WAKEUP;
}

static __always_inline void fill_header(struct header *h, __u32 table, __u64 ts)
{
	h->ts = ts;
	h->table = table;
	h->cpu = bpf_get_smp_processor_id();
}

/* Space for one record of the moment `ts`, its header filled; or null, and the loss is counted. */
static __always_inline void *reserve_at(__u32 table, __u32 size, __u64 ts)
{
	struct cpu_state *state = this_cpu();
	void *ring = this_ring();
	struct header *h;

	if (!state)
		return 0;
	if (count_only)
		__sync_fetch_and_add(&tally_of(state, table, ts)->stored, 1);
	if (count_only || !ring)
		return 0;
	h = bpf_ringbuf_reserve(ring, size, 0);
	if (!h) {
		__sync_fetch_and_add(&tally_of(state, table, ts)->ring_full, 1);
		return 0;
	}
	fill_header(h, table, ts);
	return h;
}

static __always_inline void *reserve(__u32 table, __u32 size)
{
	return reserve_at(table, size, bpf_ktime_get_ns());
}

static __always_inline void submit(void *record, __u32 table, __u32 size)
{
	struct cpu_state *state = this_cpu();

	if (!state) { /* cannot be: reserve() had it */
		bpf_ringbuf_discard(record, BPF_RB_NO_WAKEUP);
		return;
	}
	__sync_fetch_and_add(&tally_of(state, table, ((struct header *)record)->ts)->stored, 1);
	bpf_ringbuf_submit(record, wakeup_flag(state, size));
}

/* A record with trailing text, built in scratch space because a reservation's size must be constant. */
static __always_inline void output(void *record, __u32 table, __u32 size)
{
	struct cpu_state *state = this_cpu();
	void *ring = this_ring();
	struct tally *tally;

	if (!state)
		return;
	tally = tally_of(state, table, ((struct header *)record)->ts);
	if (count_only)
		__sync_fetch_and_add(&tally->stored, 1);
	if (count_only || !ring)
		return;
	if (bpf_ringbuf_output(ring, record, size, wakeup_flag(state, size)))
		__sync_fetch_and_add(&tally->ring_full, 1);
	else
		__sync_fetch_and_add(&tally->stored, 1);
}

/*
 *	struct sock_send *e = RESERVE(sock_send);
 *	if (e) { …; SUBMIT(sock_send, e); }
 *
 * Nothing between the two lines: a test of `e` that does not directly follow is made twice, and up
 * to 6.1 at least the verifier takes the second one for undecided, and the record for leaked.
 */
#define RESERVE(name)        reserve(TABLE(name), sizeof(struct name))
#define RESERVE_AT(name, ts) reserve_at(TABLE(name), sizeof(struct name), ts)
#define SUBMIT(name, record) submit(record, TABLE(name), sizeof(struct name))
#define FILTERED(name)       count_filtered(TABLE(name))
#define STATE_FULL(name)     count_state_full(TABLE(name))

/* ---- filters on the current task: only for events that it caused itself ---- */

static __always_inline bool comm_wanted(const char *comm)
{
	for (int i = 0; i < 16; i++) {
		if (comm[i] != want_comm[i])
			return false;
		if (!comm[i])
			break;
	}
	return true;
}

/* The current task's cgroup at a level; 0: it has none there. Before 5.13 tracing has no helper for that. */
static __always_inline __u64 ancestor_cgroup(__u32 level)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	struct cgroup___until_6_0 *cgroup;
	__u64 id = 0;

	if (!bpf_core_field_exists(struct cgroup___until_6_0, ancestor_ids))
		return bpf_get_current_ancestor_cgroup_id(level);
	cgroup = (struct cgroup___until_6_0 *)BPF_CORE_READ(task, cgroups, dfl_cgrp);
	if (level <= BPF_CORE_READ(cgroup, level))
		bpf_probe_read_kernel(&id, sizeof(id), &cgroup->ancestor_ids[0] + level);
	return id;
}

/*
 * Everything but --port, which is a matter of the socket. `who` is what bpf_get_current_pid_tgid() says:
 * who needs it again asks once, since a helper's call costs more than all these tests, or asks running_ids().
 */
static __always_inline bool wanted(__u64 who)
{
	char comm[16];
	__u32 tgid = who >> 32;

	if (tgid == self_tgid)
		return false;
	if (!any_filter)
		return true;
	if (filter_tgid && !tgid_wanted(tgid))
		return false;
	if (want_tid && (__u32)who != want_tid)
		return false;
	if (filter_uid && (__u32)bpf_get_current_uid_gid() != want_uid)
		return false;
	if (want_cgroup && ancestor_cgroup(want_cgroup_level) != want_cgroup)
		return false;
	if (want_netns && task_netns((struct task_struct *)bpf_get_current_task()) != want_netns)
		return false;
	if (!filter_comm)
		return true;
	bpf_get_current_comm(comm, sizeof(comm));
	return comm_wanted(comm);
}

/* ---- the same on any other task ---- */

/* A task's cgroup at a level; 0: it has none there. */
static __always_inline __u64 cgroup_of(struct task_struct *task, __u32 level)
{
	struct cgroup___since_6_0 *cgroup = (struct cgroup___since_6_0 *)BPF_CORE_READ(task, cgroups, dfl_cgrp);
	struct cgroup___until_6_0 *old = (struct cgroup___until_6_0 *)cgroup;
	struct cgroup *ancestor = 0;
	__u64 id = 0;

	if (level > BPF_CORE_READ(cgroup, level))
		return 0;
	if (bpf_core_field_exists(struct cgroup___until_6_0, ancestor_ids)) {
		bpf_probe_read_kernel(&id, sizeof(id), &old->ancestor_ids[0] + level);
		return id;
	}
	bpf_probe_read_kernel(&ancestor, sizeof(ancestor), &cgroup->ancestors[0] + level);
	return BPF_CORE_READ(ancestor, kn, id);
}

/* For events about a task that need not be the current one, of this process. */
static __always_inline bool task_of_wanted(struct task_struct *task, __u32 tgid)
{
	char comm[16] = {};

	if (tgid == self_tgid || want_port)
		return false;
	if (!any_filter)
		return true;
	if (filter_tgid && !tgid_wanted(tgid))
		return false;
	if (want_tid && BPF_CORE_READ(task, pid) != want_tid)
		return false;
	if (filter_uid && BPF_CORE_READ(task, cred, uid.val) != want_uid)
		return false;
	if (want_cgroup && cgroup_of(task, want_cgroup_level) != want_cgroup)
		return false;
	if (want_netns && task_netns(task) != want_netns)
		return false;
	if (!filter_comm)
		return true;
	bpf_core_read(comm, sizeof(comm), &task->comm);
	return comm_wanted(comm);
}

static __always_inline bool task_wanted(struct task_struct *task)
{
	return task_of_wanted(task, BPF_CORE_READ(task, tgid));
}

static __always_inline bool current_wanted(void)
{
	return wanted(bpf_get_current_pid_tgid());
}

#endif
