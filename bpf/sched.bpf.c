// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0
/*
 * The scheduler: how long tasks run, sleep, and wait for a processor, and who wakes them.
 *
 * What lies between two switches of one task is paired here, as calls are between entry and return: then
 * a threshold (--min-wait) can drop short waits before they cost a record, and stacks are taken only for the
 * rest. Everything is about the task that is switched or woken, so that is what filters look at, not
 * at the current one. The programs run with interrupts off and the run queue's lock held.
 *
 * A kernel may keep a switch to itself: of 45,363 that bpftrace saw on Linux 6.18, 23 did not begin with the
 * task that the one before had ended with. There it tells of threads of one process, which it protects in other ways too,
 * that they come and not that they leave. A task that leaves without having come, or comes twice, shows it:
 * what lay between is counted as lost.
 *
 * What the governor leaves out are tasks. Of these nothing is known afterwards either, so what was begun is forgotten.
 *
 * These run millions of times, so tasks are read as the verifier allows with a tracepoint's own arguments: in one
 * instruction, also on kernels (before 6.2) where BPF_CORE_READ() calls a helper.
 */
#include "common.bpf.h"
#include "interrupt.bpf.h"
#include "running.bpf.h"
#include "sample.bpf.h"
#include "stack.bpf.h"
#include "task.bpf.h"
#include "thread.bpf.h"

/* Shorter waits are filtered; 0: every one is recorded, without stacks. */
const volatile __u64 min_wait = 0;
/* 5: the tracepoint tells the state that the task left in (Linux 5.18); by then the task's own may have changed. */
const volatile __u32 params_of___traceiter_sched_switch = 0;

#define SLEPT_FRAMES 64
#define TASK_DEAD    0xb0 /* EXIT_DEAD, EXIT_ZOMBIE, TASK_DEAD */
#define PF_EXITING   0x4

/* What a task has done last. */
struct task_times {
	THREAD;
	__u64 in, out, queued;
	__u32 state;
	__u16 woken; /* non-zero: while it was still on its processor, perhaps already about to sleep */
	__u16 slept; /* non-zero: where, `slept_of` knows */
};
THREADS(times_of, struct task_times);

/* Where a task went to sleep, if waits have stacks. */
struct slept {
	__u64 bytes; /* of `stack` */
	__u64 stack[SLEPT_FRAMES];
};
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, __u32);
	__type(value, struct slept);
} slept_of SEC(".maps");

struct wait_record {
	struct sched_wait e;
	struct stacks stacks;
};
struct wake_record {
	struct sched_wake e;
	struct stacks stacks;
};
struct sched_scratch {
	struct slept slept;
	struct wait_record wait;
	struct wake_record wake;
};
/* One of each suffices: with interrupts off none of these programs interrupts another. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct sched_scratch);
} sched_scratch SEC(".maps");

static __always_inline struct sched_scratch *scratch(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&sched_scratch, &zero);
}

/* Made if need be; null when there is no place left. */
static __always_inline struct task_times *times_for(__u32 tid)
{
	struct task_times *t = FIND_THREAD(times_of, tid);

	return t ? t : MAKE_THREAD(times_of, tid);
}

static __always_inline void forget_times(__u32 tid)
{
	DROP_THREAD(times_of, tid);
	if (min_wait)
		bpf_map_delete_elem(&slept_of, &tid);
}

/* Whether the governor leaves this task out; what is known of it would be wrong when it is taken in again. */
static __always_inline bool task_left_out(__u32 tid)
{
	if (!left_out(tid))
		return false;
	forget_times(tid);
	return true;
}

/*
 * A process is no longer wanted once its last thread has begun to exit, which then still runs, and may sleep: whoever
 * has a place is followed until it has left for good, and gives its place back.
 */
static __always_inline bool followed(struct task_struct *task)
{
	return task_of_wanted(task, task->tgid) ||
	       (filter_tgid && task->flags & PF_EXITING && FIND_THREAD(times_of, task->pid));
}

/* ---- a task left ---- */

static __always_inline void emit_run(__u32 tid, __u32 state, __u32 next, __u64 ran, __u64 now)
{
	struct sched_run *e = RESERVE_AT(sched_run, now);

	if (!e)
		return;
	e->tid = tid;
	e->ran = ran;
	e->state = state;
	e->next = next;
	SUBMIT(sched_run, e);
}

/* A task goes to sleep: its user stack can be read now, and by nobody later. */
static __always_inline bool keep_slept(void *ctx, __u32 tid)
{
	struct sched_scratch *s = scratch();
	long size;

	if (!s)
		return false;
	size = bpf_get_stack(ctx, s->slept.stack, sizeof(s->slept.stack), BPF_F_USER_STACK);
	s->slept.bytes = size;
	return size > 0 && !bpf_map_update_elem(&slept_of, &tid, &s->slept, BPF_ANY);
}

static __always_inline void leave(void *ctx, struct task_struct *prev, __u32 state, __u32 next, __u64 now)
{
	__u32 tid = prev->pid;
	struct task_times *t;

	if (!followed(prev)) {
		FILTERED(sched_run);
		return;
	}
	if (task_left_out(tid)) {
		LEFT_OUT(sched_run);
		return;
	}
	t = times_for(tid);
	if (!t) {
		STATE_FULL(sched_run);
		return;
	}
	if (!t->in && t->out) {
		STATE_FULL(sched_wait);
		STATE_FULL(sched_run);
	} else if (t->in && now - t->in >= min_wait)
		emit_run(tid, state, next, now - t->in, now);
	else
		FILTERED(sched_run);
	if (state & TASK_DEAD) {
		forget_times(tid);
		return;
	}
	t->slept = min_wait && state && !drop_stacks && keep_slept(ctx, tid);
	t->in = 0;
	t->out = now;
	t->state = state;
	t->queued = state && !t->woken ? 0 : now;
	t->woken = 0;
}

/* ---- a task came ---- */

/* Its kernel stack can be read now that it is about to run; its user stack was kept when it went to sleep. */
static __always_inline void add_slept(struct wait_record *r, const struct task_times *t, struct task_struct *task)
{
	__u32 used = 0, length, tid = task->pid;
	char *bytes = r->stacks.bytes;
	long size = bpf_get_task_stack(task, bytes + 8, FRAMES * 8, 0);
	struct slept *slept = t->slept ? bpf_map_lookup_elem(&slept_of, &tid) : 0;

	if (size > 0) {
		*(__u64 *)bytes = 0;
		used = (size + 8) & 2047;
		r->e.kstack.off = sizeof(r->e);
		r->e.kstack.len = used;
	}
	length = slept ? slept->bytes & 1023 : 0;
	if (length && length <= sizeof(slept->stack)) {
		*(__u64 *)(bytes + used) = BPF_CORE_READ(task, tgid) | (length == sizeof(slept->stack) ? STACK_CUT : 0);
		bpf_probe_read_kernel(bytes + used + 8, length, slept->stack);
		r->e.ustack.off = sizeof(r->e) + used;
		r->e.ustack.len = length + 8;
		used += length + 8;
	}
	output(r, TABLE(sched_wait), sizeof(r->e) + (used & STACKS_MASK));
}

static __always_inline void fill_wait(struct sched_wait *e, const struct task_times *t, struct task_struct *task,
				      __u32 prev, __u64 now)
{
	e->tid = task->pid;
	e->off = t->out ? now - t->out : 0;
	e->queued = t->queued ? now - t->queued : 0;
	e->state = t->state;
	e->prev = prev;
	e->kstack = (stack_id){};
	e->ustack = (stack_id){};
}

static __always_inline void emit_wait(const struct task_times *t, struct task_struct *task, __u32 prev, __u64 now)
{
	struct sched_scratch *s;
	struct sched_wait *e;

	if (!min_wait) {
		e = RESERVE_AT(sched_wait, now);
		if (!e)
			return;
		fill_wait(e, t, task, prev, now);
		SUBMIT(sched_wait, e);
		return;
	}
	s = scratch();
	if (!s)
		return;
	e = &s->wait.e;
	fill_header((struct header *)e, TABLE(sched_wait), now);
	fill_wait(e, t, task, prev, now);
	if (drop_stacks)
		output(e, TABLE(sched_wait), sizeof(*e));
	else
		add_slept(&s->wait, t, task);
}

static __always_inline void come(struct task_struct *next, __u32 prev, __u64 now)
{
	__u32 tid = next->pid;
	struct task_times *t;

	if (!followed(next)) {
		FILTERED(sched_wait);
		return;
	}
	if (left_out(tid)) {
		LEFT_OUT(sched_wait);
		return;
	}
	t = times_for(tid);
	if (!t) {
		STATE_FULL(sched_wait);
		return;
	}
	/* A task that slept before the recording, and was not seen waking: nothing is known of its wait. */
	if ((t->out && now - t->out >= min_wait) || (t->queued && now - t->queued >= min_wait))
		emit_wait(t, next, prev, now);
	else if (t->in) {
		STATE_FULL(sched_run);
		STATE_FULL(sched_wait);
	} else
		FILTERED(sched_wait);
	t->in = now;
	t->out = 0;
	t->queued = 0;
}

static __always_inline __u32 state_of(struct task_struct *task)
{
	if (bpf_core_field_exists(struct task_struct___since_5_14, __state))
		return BPF_CORE_READ((struct task_struct___since_5_14 *)task, __state);
	return BPF_CORE_READ((struct task_struct___until_5_13 *)task, state);
}

SEC("tp_btf/sched_switch") __probe(sched_wait, 1, "tracepoint")
int sched_switch__tp(__u64 *ctx)
{
	struct task_struct *prev = (struct task_struct *)ctx[1], *next = (struct task_struct *)ctx[2];
	__u32 from, to, state = 0;
	__u64 now;

	if (!gate || !group_enabled)
		return 0;
	now = bpf_ktime_get_ns();
	from = prev->pid;
	to = next->pid;
	if (params_of___traceiter_sched_switch >= 5)
		state = ctx[3];
	else
		state = state_of(prev);
	if (ctx[0]) /* preempted: whatever it is about to do, it has not yet */
		state = 0;
	if (from)
		leave(ctx, prev, state, to, now);
	if (to)
		come(next, from, now);
	return 0;
}

/* ---- a task is woken ---- */

static __always_inline void fill_wake(struct sched_wake *e, const struct task_times *t, __u32 tid, __u64 now,
				      enum wake_context context)
{
	e->tid = tid;
	e->blocked = now - t->out;
	e->context = context;
	e->waker = context == WAKE_irq ? 0 : (__u32)running_ids(); /* who was interrupted has no part in it */
	e->state = t->state;
	e->kstack = (stack_id){};
	e->ustack = (stack_id){};
}

static __always_inline void emit_wake(void *ctx, const struct task_times *t, __u32 tid, __u64 now, enum wake_context context)
{
	struct sched_scratch *s;
	struct wake_record *r;
	struct sched_wake *e;
	__u32 used = 0;

	if (!min_wait) {
		e = RESERVE_AT(sched_wake, now);
		if (!e)
			return;
		fill_wake(e, t, tid, now, context);
		SUBMIT(sched_wake, e);
		return;
	}
	s = scratch();
	if (!s)
		return;
	r = &s->wake;
	fill_header((struct header *)&r->e, TABLE(sched_wake), now);
	fill_wake(&r->e, t, tid, now, context);
	if (!drop_stacks) {
		used = add_stack(ctx, &r->stacks, sizeof(r->e), 0, &r->e.kstack, 0);
		if (context != WAKE_irq && current_wanted()) /* what others run is not ours to tell */
			used += add_stack(ctx, &r->stacks, sizeof(r->e), used, &r->e.ustack, BPF_F_USER_STACK);
	}
	output(r, TABLE(sched_wake), sizeof(r->e) + (used & STACKS_MASK));
}

static __always_inline int wake(__u64 *ctx, bool knows_context)
{
	struct task_struct *task = (struct task_struct *)ctx[0];
	__u32 tid = task->pid;
	struct task_times *t;
	__u64 now;

	if (!gate || !group_enabled)
		return 0;
	if (!followed(task)) {
		FILTERED(sched_wake);
		return 0;
	}
	if (left_out(tid)) {
		LEFT_OUT(sched_wake);
		return 0;
	}
	now = bpf_ktime_get_ns();
	t = FIND_THREAD(times_of, tid);
	if (t && t->out && t->state && now - t->out >= min_wait)
		emit_wake(ctx, t, tid, now, knows_context ? context_now() : 0);
	else
		FILTERED(sched_wake);
	return 0;
}

/* In the context of the waker, unlike sched_wakeup, which may run on the processor of the woken one. */
SEC("tp_btf/sched_waking") __probe(sched_wake, 1, "tracepoint")
int sched_waking__tp(__u64 *ctx)
{
	return wake(ctx, true);
}

/* Kernels without names of their variables (CONFIG_KALLSYMS_ALL) refuse to lead a program to one. */
SEC("tp_btf/sched_waking") __probe(sched_wake, 2, "tracepoint") __lacks("sched_wake.context")
int sched_waking_bare__tp(__u64 *ctx)
{
	return wake(ctx, false);
}

/* ---- a task is moved ---- */

SEC("tp_btf/sched_migrate_task") __probe(sched_migrate, 1, "tracepoint")
int sched_migrate__tp(__u64 *ctx)
{
	struct task_struct *task = (struct task_struct *)ctx[0];
	struct sched_migrate *e;

	if (!gate || !group_enabled)
		return 0;
	if (min_wait || !task_of_wanted(task, task->tgid)) {
		FILTERED(sched_migrate);
		return 0;
	}
	if (left_out(task->pid)) {
		LEFT_OUT(sched_migrate);
		return 0;
	}
	e = RESERVE(sched_migrate);
	if (!e)
		return 0;
	e->tid = task->pid;
	e->from = processor_of(task);
	e->to = ctx[1];
	SUBMIT(sched_migrate, e);
	return 0;
}

/* From here on it waits for a processor. */
static __always_inline int queue(struct task_struct *task)
{
	__u32 tid = task->pid;
	struct task_times *t;

	if (!gate || !group_enabled || !followed(task) || left_out(tid))
		return 0;
	t = times_for(tid);
	if (t && t->in)
		t->woken = 1;
	else if (t)
		t->queued = bpf_ktime_get_ns();
	return 0;
}

SEC("tp_btf/sched_wakeup") __probe(sched_wait, 1, "tracepoint") __notes
int sched_wakeup__tp(__u64 *ctx)
{
	return queue((struct task_struct *)ctx[0]);
}

SEC("tp_btf/sched_wakeup_new") __probe(sched_wait, 1, "tracepoint") __notes
int sched_wakeup_new__tp(__u64 *ctx)
{
	return queue((struct task_struct *)ctx[0]);
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
