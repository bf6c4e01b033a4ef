/* SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0 */
/*
 * What each thread has used: a row per thread at each interval, and one at its end, so that the
 * differences of rows miss nothing, however short a thread lives.
 */
#include "common.bpf.h"
#include "task.bpf.h"

#define FILE_PAGES 0
#define ANON_PAGES 1
#define SHMEM      3
#define FD_WORDS   64 /* of 64 descriptors each */
#define UNKNOWN    ((__u32)-1)

const volatile __u32 page_size = 4096;

static __always_inline __u64 pages_of(struct mm_struct *mm, __u32 kind)
{
	struct mm_struct___until_6_2 *old = (struct mm_struct___until_6_2 *)mm;
	__s64 count = 0;

	if (bpf_core_field_exists(old->rss_stat.count))
		bpf_probe_read_kernel(&count, sizeof(count), &old->rss_stat.count[0] + kind);
	else
		bpf_probe_read_kernel(&count, sizeof(count),
			(void *)&mm->rss_stat[0].count + kind * bpf_core_type_size(struct percpu_counter));
	return count > 0 ? count : 0;
}

static __always_inline void fill_memory(struct task_stat *e, struct task_struct *task)
{
	struct mm_struct *mm = BPF_CORE_READ(task, mm);

	e->vsz = e->rss = e->stack = 0;
	if (!mm)
		return;
	e->vsz = BPF_CORE_READ(mm, total_vm) * page_size;
	e->stack = BPF_CORE_READ(mm, stack_vm) * page_size;
	e->rss = (pages_of(mm, FILE_PAGES) + pages_of(mm, ANON_PAGES) + pages_of(mm, SHMEM)) * page_size;
}

static __always_inline __u32 ones(__u64 word)
{
	word -= (word >> 1) & 0x5555555555555555;
	word = (word & 0x3333333333333333) + ((word >> 2) & 0x3333333333333333);
	word = (word + (word >> 4)) & 0x0f0f0f0f0f0f0f0f;
	return (word * 0x0101010101010101) >> 56;
}

static __always_inline __u32 descriptors(struct task_struct *task)
{
	struct fdtable *table = BPF_CORE_READ(task, files, fdt);
	unsigned long *bits = BPF_CORE_READ(table, open_fds), word;
	__u32 words = BPF_CORE_READ(table, max_fds) / 64, count = 0;

	if (!table || words > FD_WORDS)
		return UNKNOWN;
	for (__u32 i = 0; i < FD_WORDS; i++) {
		if (i >= words || bpf_probe_read_kernel(&word, sizeof(word), bits + i))
			break;
		count += ones(word);
	}
	return count;
}

static __always_inline void fill_times(struct task_stat *e, struct task_struct *task)
{
	struct task_delay_info *delays = BPF_CORE_READ(task, delays);

	e->start = BPF_CORE_READ(task, start_time);
	e->runtime = BPF_CORE_READ(task, se.sum_exec_runtime);
	e->utime = BPF_CORE_READ(task, utime);
	e->stime = BPF_CORE_READ(task, stime);
	e->guest = BPF_CORE_READ(task, gtime);
	e->wait = BPF_CORE_READ(task, sched_info.run_delay);
	e->io_wait = delays ? BPF_CORE_READ(delays, blkio_delay) : -1;
}

static __always_inline void emit_stat(struct task_struct *task, bool exited)
{
	struct task_stat *e = RESERVE(task_stat);

	if (!e)
		return;
	e->exited = exited;
	e->tgid = BPF_CORE_READ(task, tgid);
	e->tid = BPF_CORE_READ(task, pid);
	fill_times(e, task);
	e->minor_faults = BPF_CORE_READ(task, min_flt);
	e->major_faults = BPF_CORE_READ(task, maj_flt);
	e->voluntary = BPF_CORE_READ(task, nvcsw);
	e->involuntary = BPF_CORE_READ(task, nivcsw);
	e->read = BPF_CORE_READ(task, ioac.read_bytes);
	e->written = BPF_CORE_READ(task, ioac.write_bytes);
	e->cancelled = BPF_CORE_READ(task, ioac.cancelled_write_bytes);
	fill_memory(e, task);
	e->threads = BPF_CORE_READ(task, signal, nr_threads);
	e->fds = descriptors(task);
	e->processor = processor_of(task);
	e->priority = BPF_CORE_READ(task, prio);
	e->policy = BPF_CORE_READ(task, policy);
	SUBMIT(task_stat, e);
}

/* Of COMMAND also before it is executed: what it used from then on is the difference to that. */
SEC("iter/task") __probe(task_stat, 1, "iterator") __otherwise("procfs")
int task_stat__tick(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task;

	if (task && gate && !want_port && (task_wanted(task) || tgid_awaited(BPF_CORE_READ(task, tgid))))
		emit_stat(task, false);
	return 0;
}

SEC("tp_btf/sched_process_exit") __probe(task_stat_end, 1, "tracepoint")
int BPF_PROG(task_stat_end__tp, struct task_struct *task)
{
	if (gate && !want_port && current_wanted())
		emit_stat(task, true);
	return 0;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
