/* SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0 */
/*
 * Whether the current task is at work, or only what an interrupt found.
 *
 * The kernel counts what this processor is in the middle of: on x86 in a variable of the processor, which has had two
 * homes, on arm64 in the task. Where none of the three is known, as on Linux 5.10, neither is the answer.
 */
#ifndef TAPEDECK_INTERRUPT_H
#define TAPEDECK_INTERRUPT_H

#define SERVING_SOFTIRQ 0x000100
#define IN_INTERRUPT    0xff0000 /* a device's, or one that cannot be masked */

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct pcpu_hot {
	int preempt_count;
};
struct thread_info___arm64 {
	__u64 preempt_count;
};
struct task_struct___arm64 {
	struct thread_info___arm64 thread_info;
};
#pragma clang attribute pop

extern const int __preempt_count __ksym __weak;
extern const struct pcpu_hot pcpu_hot __ksym __weak; /* Linux 6.2 to 6.14 */

static __always_inline enum wake_context context_now(void)
{
	struct task_struct___arm64 *task;
	__u32 count;

	if (&__preempt_count)
		count = *(int *)bpf_this_cpu_ptr(&__preempt_count);
	else if (&pcpu_hot)
		count = ((struct pcpu_hot *)bpf_this_cpu_ptr(&pcpu_hot))->preempt_count;
	else if (bpf_core_field_exists(struct thread_info___arm64, preempt_count)) {
		task = (struct task_struct___arm64 *)bpf_get_current_task();
		count = BPF_CORE_READ(task, thread_info.preempt_count);
	} else
		return 0;
	if (count & IN_INTERRUPT)
		return WAKE_irq;
	return count & SERVING_SOFTIRQ ? WAKE_softirq : WAKE_task;
}

#endif
