// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0
/*
 * Segments as they reach the TCP receive code of their socket: the other end of every latency.
 *
 * All of it runs in interrupt context (or, for a segment that waited while the owner held the
 * socket, in whatever call releases it), so no task is recorded here, and filters look at the
 * socket's owner.
 */
#include "common.bpf.h"
#include "sock.bpf.h"
#include "turn.bpf.h"

#define FIN 1
#define SYN 2
#define ETH_P_IP 0x0800

static __always_inline void fill_segment(struct tcp_rx *e, const struct sk_buff *skb)
{
	const struct tcp_skb_cb *cb = (const struct tcp_skb_cb *)&skb->cb;
	__u32 end = BPF_CORE_READ(cb, end_seq);

	e->seq = BPF_CORE_READ(cb, seq);
	e->ack = BPF_CORE_READ(cb, ack_seq);
	e->flags = BPF_CORE_READ(cb, tcp_flags);
	if (bpf_core_field_size(cb->tcp_flags) == 1) /* one byte until 6.15 */
		e->flags &= 0xff;
	e->len = end - e->seq - !!(e->flags & SYN) - !!(e->flags & FIN);
}

static __always_inline void fill_sock(struct tcp_rx *e, const struct sock *sk)
{
	const struct tcp_sock *tp = (const struct tcp_sock *)sk;

	e->srtt = BPF_CORE_READ(tp, srtt_us) >> 3;
	e->cwnd = BPF_CORE_READ(tp, snd_cwnd);
	e->state = BPF_CORE_READ(sk, __sk_common.skc_state);
	e->backlog = BPF_CORE_READ(sk, sk_lock.owned) != 0;
}

/* Data came: the turn that waited for it is over, and was too long if it reached the limit. */
static __always_inline void watch_turn(sock_id sock, const struct sock *sk, const struct sk_buff *skb)
{
	const struct tcp_skb_cb *cb = (const struct tcp_skb_cb *)&skb->cb;
	__u32 seq = BPF_CORE_READ(cb, seq), end = BPF_CORE_READ(cb, end_seq), flags = BPF_CORE_READ(cb, tcp_flags);
	struct turn *turn = turn_on(sk);
	struct tcp_slow *e;
	__u64 began, now;
	__u32 tid;

	end -= !!(flags & FIN);
	if (!turn || end == seq + !!(flags & SYN))
		return;
	tid = turn->tid;
	began = turn_ends(turn, end);
	now = began ? bpf_ktime_get_ns() : 0;
	if (now < began + limit_response)
		return;
	e = RESERVE(tcp_slow);
	if (!e)
		return;
	e->tid = tid;
	e->sock = sock;
	e->latency = now - began;
	SUBMIT(tcp_slow, e);
}

static __always_inline int received(const struct sock *sk, const struct sk_buff *skb)
{
	struct sock_entry *entry;
	struct tcp_rx *e;

	if (!gate || !group_enabled)
		return 0;
	entry = sock_of(sk);
	if (!entry) {
		STATE_FULL(tcp_rx);
		return 0;
	}
	if (!entry->wanted || !sock_matches(sk, entry)) {
		FILTERED(tcp_rx);
		return 0;
	}
	if (limit_response)
		watch_turn(entry->id, sk, skb);
	if (left_out(entry->id)) {
		LEFT_OUT(tcp_rx);
		return 0;
	}
	e = RESERVE(tcp_rx);
	if (!e)
		return 0;
	e->sock = entry->id;
	fill_segment(e, skb);
	fill_sock(e, sk);
	SUBMIT(tcp_rx, e);
	return 0;
}

static __always_inline bool is_listener(const struct sock *sk)
{
	return BPF_CORE_READ(sk, __sk_common.skc_state) == LISTEN;
}

/* An IPv4 segment for an IPv6 socket may come by the IPv6 function, which then calls the other. */
static __always_inline bool is_ipv4(const struct sk_buff *skb)
{
	return BPF_CORE_READ(skb, protocol) == bpf_htons(ETH_P_IP);
}

/*
 * The segment that ends a handshake goes to the new socket by another function, and may carry data:
 * with TCP_DEFER_ACCEPT, or when it overtook the bare ACK. If the owner already holds the socket it
 * is put off, and then comes by the first way.
 */
static __always_inline int received_first(const struct sock *child, const struct sk_buff *skb)
{
	return BPF_CORE_READ(child, sk_lock.owned) ? 0 : received(child, skb);
}

SEC("fentry/tcp_v4_do_rcv") __probe(tcp_rx, 1, "fentry")
int BPF_PROG(rx_v4__fentry, struct sock *sk, struct sk_buff *skb)
{
	return is_listener(sk) ? 0 : received(sk, skb);
}

SEC("fentry/tcp_v6_do_rcv") __probe(tcp_rx, 1, "fentry")
int BPF_PROG(rx_v6__fentry, struct sock *sk, struct sk_buff *skb)
{
	return is_listener(sk) || is_ipv4(skb) ? 0 : received(sk, skb);
}

SEC("fentry/tcp_child_process") __probe(tcp_rx, 1, "fentry")
int BPF_PROG(rx_first__fentry, struct sock *parent, struct sock *child, struct sk_buff *skb)
{
	return received_first(child, skb);
}

SEC("tp_btf/tcp_probe") __probe(tcp_rx, 2, "tracepoint")
int BPF_PROG(rx__tp, struct sock *sk, const struct sk_buff *skb)
{
	return received(sk, skb);
}

SEC("kprobe/tcp_v4_do_rcv") __probe(tcp_rx, 3, "kprobe")
int BPF_KPROBE(rx_v4__kprobe, struct sock *sk, struct sk_buff *skb)
{
	return is_listener(sk) ? 0 : received(sk, skb);
}

SEC("kprobe/tcp_v6_do_rcv") __probe(tcp_rx, 3, "kprobe")
int BPF_KPROBE(rx_v6__kprobe, struct sock *sk, struct sk_buff *skb)
{
	return is_listener(sk) || is_ipv4(skb) ? 0 : received(sk, skb);
}

SEC("kprobe/tcp_child_process") __probe(tcp_rx, 3, "kprobe")
int BPF_KPROBE(rx_first__kprobe, struct sock *parent, struct sock *child, struct sk_buff *skb)
{
	return received_first(child, skb);
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
