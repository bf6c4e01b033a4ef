// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0
/*
 * TCP as the tasks see it: connection states and the `sock` identity, with sockets that existed
 * before the start, here; calls of tcp_sendmsg and tcp_recvmsg and accepts in a header for each.
 */
#include "common.bpf.h"
#include "sock_send.bpf.h"
#include "sock_recv.bpf.h"
#include "sock_accept.bpf.h"

/* ---- states ---- */

/*
 * These changes happen in a call of the task itself. The others (a handshake's end, a FIN or RST
 * from the peer, a timer) run in interrupt context, where the current task is anybody.
 */
static __always_inline bool task_trusted(int old, int new)
{
	return new == SYN_SENT || new == LISTEN || new == FIN_WAIT1 || new == LAST_ACK;
}

static __always_inline void fill_counters(struct tcp_state *e, const struct tcp_sock *tp)
{
	e->acked = BPF_CORE_READ(tp, bytes_acked);
	e->received = BPF_CORE_READ(tp, bytes_received);
	e->segs_out = BPF_CORE_READ(tp, segs_out);
	e->segs_in = BPF_CORE_READ(tp, segs_in);
	e->retrans = BPF_CORE_READ(tp, total_retrans);
	e->srtt = BPF_CORE_READ(tp, srtt_us) >> 3;
}

static __always_inline void emit_state(const struct sock *sk, struct sock_entry *entry, int old, int new)
{
	struct tcp_state *e = RESERVE(tcp_state);

	if (!e)
		return;
	e->tid = task_trusted(old, new) ? current_tid() : 0;
	e->sock = entry->id;
	e->old = old;
	e->new = new;
	e->backlog = new == LISTEN ? BPF_CORE_READ(sk, sk_max_ack_backlog) : 0;
	fill_counters(e, (const struct tcp_sock *)sk);
	SUBMIT(tcp_state, e);
}

SEC("tp_btf/inet_sock_set_state") __probe(tcp_state, 1, "tracepoint") __keeps("sock") __feeds(task_filter)
int BPF_PROG(tcp_state__tp, const struct sock *sk, const int old, const int new)
{
	struct sock_entry *entry;

	if (!argument_is_tcp(sk))
		return 0;
	if (new == SYN_SENT || new == LISTEN)
		entry = sock_used_by(sk, current_tgid(), current_wanted());
	else
		entry = sock_of(sk);
	if (entry && task_filter && new == LISTEN)
		note_listener(sk, entry->wanted);
	if (entry && !entry->wanted && (new == SYN_RECV || old == SYN_RECV))
		entry->wanted = listener_wanted(sk);
	if (entry && (old == SYN_RECV || new == LISTEN || new == SYN_SENT))
		entry->side = new == SYN_SENT ? SIDE_CLIENT : SIDE_SERVER;
	if (entry && new == ESTABLISHED && entry->wanted)
		define_sock(sk, entry, false); /* the local port and address are known only now */
	if (!gate || !group_enabled)
		return 0;
	if (!entry)
		STATE_FULL(tcp_state);
	else if (!entry->wanted || !sock_matches(sk, entry))
		FILTERED(tcp_state);
	else
		emit_state(sk, entry, old, new);
	return 0;
}

/* A socket's last moment: its address may be used again at once. */
SEC("tp_btf/tcp_destroy_sock") __probe(sock_end, 1, "tracepoint") __keeps("sock")
int BPF_PROG(sock_end__tp, struct sock *sk)
{
	struct sock_entry *entry = find_sock(sk);
	__u64 key = (__u64)sk;

	forget_turn(sk);
	if (!entry)
		return 0;
	if (entry->wanted)
		define_sock(sk, entry, true);
	bpf_map_delete_elem(&socks, &key);
	return 0;
}

/* ---- sockets from before the start: every descriptor of every process that is a TCP socket ---- */

SEC("iter/task_file") __probe(sock_start, 1, "iterator") __keeps("sock")
int sock_start__iter(struct bpf_iter__task_file *ctx)
{
	struct task_struct *task = ctx->task;
	struct file *file = ctx->file;
	const struct sock *sk;
	__u32 tgid;
	bool known;

	if (!task || !file)
		return 0;
	sk = sock_of_file(file);
	if (!sk || !is_tcp(sk))
		return 0;
	tgid = BPF_CORE_READ(task, tgid);
	known = filter_tgid && tgid_wanted(tgid);
	sock_used_by(sk, tgid, known);
	if (known && BPF_CORE_READ(sk, __sk_common.skc_state) == LISTEN)
		note_listener(sk, true);
	return 0;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
