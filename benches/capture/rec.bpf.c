// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0
/*
 * The floor that the recorder is measured against: BTF tracepoints, direct loads, one clock read, a
 * filter by process with its descendants, a ring per processor, no wakeups. No identity, no ledger,
 * no columns, no compression, and no way to attach but this one.
 */
#include "rec.bpf.h"

#define IPPROTO_TCP 6

struct note {
	__u64 sk, ts;
	__u32 size, seq;
};
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 32768);
	__type(key, __u32);
	__type(value, struct note);
} notes SEC(".maps");

/* What the hook itself costs. */
SEC("tp_btf/sock_recv_length")
int BPF_PROG(on_empty)
{
	return 0;
}

SEC("tp_btf/sock_recv_length")
int BPF_PROG(on_recv, struct sock *sk, int ret, int flags)
{
	__u64 who = bpf_get_current_pid_tgid();
	struct tcp_sock *tp;
	struct rec_recv *e;

	if (sk->sk_protocol != IPPROTO_TCP || !is_wanted(who))
		return 0;
	tp = bpf_skc_to_tcp_sock(sk);
	if (!tp)
		return 0;
	e = reserve(1, sizeof(*e), who);
	if (!e)
		return 0;
	e->sock = (__u64)sk;
	e->latency = 0;
	e->ret = ret;
	e->seq = tp->copied_seq;
	e->flags = flags;
	SUBMIT(e);
	return 0;
}

SEC("tp_btf/tcp_sendmsg_locked")
int BPF_PROG(on_send_start, struct sock *sk, struct msghdr *msg)
{
	__u64 who = bpf_get_current_pid_tgid();
	__u32 tid = who;
	struct note *p, fresh = {};

	if (!is_wanted(who))
		return 0;
	p = bpf_map_lookup_elem(&notes, &tid);
	if (p && p->sk)
		return 0;
	if (!p) {
		bpf_map_update_elem(&notes, &tid, &fresh, BPF_ANY);
		p = bpf_map_lookup_elem(&notes, &tid);
	}
	if (!p)
		return 0;
	p->sk = (__u64)sk;
	p->ts = bpf_ktime_get_ns();
	p->size = msg->msg_iter.count;
	p->seq = BPF_CORE_READ((struct tcp_sock *)sk, write_seq);
	return 0;
}

SEC("tp_btf/sock_send_length")
int BPF_PROG(on_send, struct sock *sk, int ret, int flags)
{
	__u64 who = bpf_get_current_pid_tgid();
	__u32 tid = who;
	struct rec_send *e;
	struct note *p;

	if (sk->sk_protocol != IPPROTO_TCP || !is_wanted(who))
		return 0;
	p = bpf_map_lookup_elem(&notes, &tid);
	if (!p)
		return 0;
	e = reserve(2, sizeof(*e), who);
	if (!e)
		return 0;
	e->sock = (__u64)sk;
	e->latency = e->ts - p->ts;
	e->ret = ret;
	e->requested = p->size;
	e->seq = p->seq;
	e->flags = flags;
	e->exact = 1;
	SUBMIT(e);
	p->sk = 0;
	return 0;
}

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(on_state, struct sock *sk, int old, int new)
{
	struct rec_state *e;
	struct tcp_sock *tp;

	if (sk->sk_protocol != IPPROTO_TCP)
		return 0;
	tp = bpf_skc_to_tcp_sock(sk);
	if (!tp)
		return 0;
	e = reserve(3, sizeof(*e), bpf_get_current_pid_tgid());
	if (!e)
		return 0;
	e->sock = (__u64)sk;
	e->old = old;
	e->new = new;
	e->backlog = sk->sk_max_ack_backlog;
	e->acked = tp->bytes_acked;
	e->received = tp->bytes_received;
	e->segs_out = tp->segs_out;
	e->segs_in = tp->segs_in;
	e->retrans = tp->total_retrans;
	e->srtt = tp->srtt_us >> 3;
	SUBMIT(e);
	return 0;
}

static __always_inline int accepted(long ret)
{
	__u64 who = bpf_get_current_pid_tgid();
	struct rec_accept *e;

	if (ret < 0 || !is_wanted(who))
		return 0;
	e = reserve(13, sizeof(*e), who);
	if (!e)
		return 0;
	e->fd = ret;
	SUBMIT(e);
	return 0;
}

SEC("tracepoint/syscalls/sys_exit_accept")
int on_accept(struct trace_event_raw_sys_exit *ctx)
{
	return accepted(ctx->ret);
}

SEC("tracepoint/syscalls/sys_exit_accept4")
int on_accept4(struct trace_event_raw_sys_exit *ctx)
{
	return accepted(ctx->ret);
}

/* Execs that fail show themselves nowhere else. */
SEC("tracepoint/syscalls/sys_exit_execve")
int on_exec_failed(struct trace_event_raw_sys_exit *ctx)
{
	return ctx->ret < 0 ? accepted(0) : 0;
}

SEC("tp_btf/tcp_probe")
int BPF_PROG(on_rx, struct sock *sk, struct sk_buff *skb)
{
	const struct tcp_skb_cb *cb = (const void *)skb->cb;
	struct tcp_sock *tp = bpf_skc_to_tcp_sock(sk);
	struct rec_rx *e;

	if (!tp)
		return 0;
	e = reserve(4, sizeof(*e), bpf_get_current_pid_tgid());
	if (!e)
		return 0;
	e->sock = (__u64)sk;
	e->seq = BPF_CORE_READ(cb, seq);
	e->ack = BPF_CORE_READ(cb, ack_seq);
	e->len = BPF_CORE_READ(cb, end_seq) - e->seq;
	e->srtt = tp->srtt_us >> 3;
	e->cwnd = tp->snd_cwnd;
	e->flags = 0;
	e->state = sk->__sk_common.skc_state;
	SUBMIT(e);
	return 0;
}

SEC("tp_btf/sys_enter")
int BPF_PROG(on_call, struct pt_regs *regs, long nr)
{
	__u64 who = bpf_get_current_pid_tgid();
	struct rec_call *e;

	if (!is_wanted(who))
		return 0;
	e = reserve(5, sizeof(*e), who);
	if (!e)
		return 0;
	e->nr = nr;
	e->args[0] = regs->di;
	e->args[1] = regs->si;
	e->args[2] = regs->dx;
	e->args[3] = regs->r10;
	e->args[4] = regs->r8;
	e->args[5] = regs->r9;
	SUBMIT(e);
	return 0;
}

SEC("tp_btf/sys_exit")
int BPF_PROG(on_ret, struct pt_regs *regs, long ret)
{
	__u64 who = bpf_get_current_pid_tgid();
	struct rec_return *e;

	if (!is_wanted(who))
		return 0;
	e = reserve(6, sizeof(*e), who);
	if (!e)
		return 0;
	e->nr = regs->orig_ax;
	e->ret = ret;
	SUBMIT(e);
	return 0;
}

/* One record for both hooks, which is what the recorder makes of a call. */
SEC("tp_btf/sys_enter")
int BPF_PROG(on_paired_call, struct pt_regs *regs, long nr)
{
	__u64 who = bpf_get_current_pid_tgid();
	__u32 tid = who;
	struct note *p, fresh = {};

	if (!is_wanted(who))
		return 0;
	p = bpf_map_lookup_elem(&notes, &tid);
	if (!p) {
		bpf_map_update_elem(&notes, &tid, &fresh, BPF_ANY);
		p = bpf_map_lookup_elem(&notes, &tid);
	}
	if (!p)
		return 0;
	p->size = nr;
	p->ts = bpf_ktime_get_ns();
	return 0;
}

SEC("tp_btf/sys_exit")
int BPF_PROG(on_paired_ret, struct pt_regs *regs, long ret)
{
	__u64 who = bpf_get_current_pid_tgid();
	__u32 tid = who;
	struct rec_syscall *e;
	struct note *p;

	if (!is_wanted(who))
		return 0;
	p = bpf_map_lookup_elem(&notes, &tid);
	if (!p || !p->ts)
		return 0;
	e = reserve(14, sizeof(*e), who);
	if (!e)
		return 0;
	e->latency = e->ts - p->ts;
	e->ret = ret;
	e->nr = p->size;
	e->errno = ret < 0 && ret >= -4095 ? -ret : 0;
	SUBMIT(e);
	p->ts = 0;
	return 0;
}

/* Either side of the switch may be a wanted one. */
SEC("tp_btf/sched_switch")
int BPF_PROG(on_switch, bool preempt, struct task_struct *prev, struct task_struct *next)
{
	__u32 from = prev->tgid, to = next->tgid;
	struct rec_switch *e;

	if (!bpf_map_lookup_elem(&wanted, &from) && !bpf_map_lookup_elem(&wanted, &to))
		return 0;
	e = reserve(7, sizeof(*e), prev->pid);
	if (!e)
		return 0;
	e->next = next->pid;
	e->state = prev->flags;
	SUBMIT(e);
	return 0;
}

static __always_inline int woken(__u16 kind, struct task_struct *task)
{
	__u32 tgid = task->tgid;
	struct rec_wakeup *e;

	if (!bpf_map_lookup_elem(&wanted, &tgid))
		return 0;
	e = reserve(kind, sizeof(*e), bpf_get_current_pid_tgid());
	if (!e)
		return 0;
	e->wakee = task->pid;
	e->target = 0;
	SUBMIT(e);
	return 0;
}

SEC("tp_btf/sched_waking")
int BPF_PROG(on_waking, struct task_struct *task)
{
	return woken(8, task);
}

SEC("tp_btf/sched_wakeup")
int BPF_PROG(on_wakeup, struct task_struct *task)
{
	return woken(9, task);
}

SEC("tp_btf/sched_process_fork")
int BPF_PROG(on_fork, struct task_struct *parent, struct task_struct *child)
{
	__u64 who = bpf_get_current_pid_tgid();
	struct rec_fork *e;

	if (!is_wanted(who))
		return 0;
	e = reserve(10, sizeof(*e), who);
	if (!e)
		return 0;
	e->child = child->pid;
	e->flags = child->flags;
	SUBMIT(e);
	return 0;
}

SEC("tp_btf/sched_process_exec")
int BPF_PROG(on_exec, struct task_struct *task, int old, struct linux_binprm *bprm)
{
	__u64 who = bpf_get_current_pid_tgid();
	struct rec_exec *e;

	if (!is_wanted(who))
		return 0;
	e = reserve(11, sizeof(*e), who);
	if (!e)
		return 0;
	e->argc = bprm->argc;
	bpf_probe_read_kernel_str(e->file, sizeof(e->file), bprm->filename);
	SUBMIT(e);
	return 0;
}

SEC("tp_btf/sched_process_exit")
int BPF_PROG(on_exit, struct task_struct *task)
{
	__u64 who = bpf_get_current_pid_tgid();
	struct rec_exit *e;

	if (!is_wanted(who))
		return 0;
	e = reserve(12, sizeof(*e), who);
	if (!e)
		return 0;
	e->age = e->ts - task->start_time;
	e->utime = task->utime;
	e->stime = task->stime;
	e->code = task->exit_code;
	SUBMIT(e);
	return 0;
}
