/* SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0 */
/*
 * Socket identity: from a kernel address, which the kernel uses again, to an id of ours that is
 * never used twice in a recording; who owns it; and whether the filters want it.
 *
 * Receives run in interrupt context under whatever task happens to be current. They are therefore
 * filtered by the socket's owner, learned from calls whose task can be trusted (connect, listen,
 * accept, send, receive), never by the current task.
 */
#ifndef TAPEDECK_SOCK_H
#define TAPEDECK_SOCK_H

#define AF_INET      2
#define AF_INET6     10
#define IPPROTO_TCP  6
#define SOCK_STREAM  1
#define S_IFMT       00170000
#define S_IFSOCK     0140000
#define SIDE_SERVER  1
#define SIDE_CLIENT  2

#include <bpf/bpf_endian.h>
#include "running.bpf.h"
#include "sample.bpf.h"

enum tcp_states {
	ESTABLISHED = 1, SYN_SENT, SYN_RECV, FIN_WAIT1, FIN_WAIT2, TIME_WAIT,
	CLOSE, CLOSE_WAIT, LAST_ACK, LISTEN, CLOSING, NEW_SYN_RECV,
};

struct sock_entry {
	sock_id id;
	__u32 owner;   /* tgid; 0: not known yet */
	__u16 lport, rport; /* once known: the kernel forgets the local port before the socket's last call */
	__u8 wanted;   /* a wanted task used it, or no filter is about tasks */
	__u8 side;     /* 0: not known, or one of SIDE_* */
	__u16 unused;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__type(key, __u64);
	__type(value, struct sock_entry);
} socks SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} last_sock_id SEC(".maps");

static __always_inline __u32 new_sock_id(void)
{
	__u32 zero = 0;

	return unique_id(bpf_map_lookup_elem(&last_sock_id, &zero));
}

static __always_inline bool are_tcp(__u16 protocol, __u16 type, __u16 family)
{
	return protocol == IPPROTO_TCP && type == SOCK_STREAM && (family == AF_INET || family == AF_INET6);
}

static __always_inline bool is_tcp(const struct sock *sk)
{
	return are_tcp(BPF_CORE_READ(sk, sk_protocol), BPF_CORE_READ(sk, sk_type),
		       BPF_CORE_READ(sk, __sk_common.skc_family));
}

/* The same of a tracepoint's own argument, which the kernel vouches for: plain loads, without a guard around each. */
static __always_inline bool argument_is_tcp(const struct sock *sk)
{
	return are_tcp(sk->sk_protocol, sk->sk_type, sk->__sk_common.skc_family);
}

/* Null: the file is no socket. */
static __always_inline const struct sock *sock_of_file(const struct file *file)
{
	struct socket *socket;

	if ((BPF_CORE_READ(file, f_inode, i_mode) & S_IFMT) != S_IFSOCK)
		return 0;
	socket = BPF_CORE_READ(file, private_data);
	return BPF_CORE_READ(socket, sk);
}

static __always_inline void learn_ports(struct sock_entry *entry, const struct sock *sk)
{
	__u16 local = BPF_CORE_READ(sk, __sk_common.skc_num);
	__u16 remote = bpf_ntohs(BPF_CORE_READ(sk, __sk_common.skc_dport));

	if (local)
		entry->lport = local;
	if (remote)
		entry->rport = remote;
}

/* --port and --netns: what the socket itself decides. */
static __always_inline bool sock_matches(const struct sock *sk, struct sock_entry *entry)
{
	if (want_port) {
		learn_ports(entry, sk);
		if (entry->lport != want_port && entry->rport != want_port)
			return false;
	}
	return !want_netns || BPF_CORE_READ(sk, __sk_common.skc_net.net, ns.inum) == want_netns;
}

static __always_inline void fill_v4(ip6_t *to, __be32 addr)
{
	__builtin_memset(to, 0, sizeof(*to));
	to->byte[10] = to->byte[11] = 0xff;
	__builtin_memcpy(&to->byte[12], &addr, 4);
}

static __always_inline void fill_addresses(struct sock_row *row, const struct sock *sk)
{
	if (row->family == AF_INET) {
		fill_v4(&row->laddr, BPF_CORE_READ(sk, __sk_common.skc_rcv_saddr));
		fill_v4(&row->raddr, BPF_CORE_READ(sk, __sk_common.skc_daddr));
		return;
	}
	bpf_core_read(&row->laddr, 16, &sk->__sk_common.skc_v6_rcv_saddr);
	bpf_core_read(&row->raddr, 16, &sk->__sk_common.skc_v6_daddr);
}

static __always_inline void define_sock(const struct sock *sk, struct sock_entry *entry, bool ended)
{
	struct sock_row *row = RESERVE(sock_row);

	if (!row)
		return;
	row->sock = entry->id;
	row->family = BPF_CORE_READ(sk, __sk_common.skc_family);
	row->protocol = IPPROTO_TCP;
	learn_ports(entry, sk);
	row->lport = entry->lport;
	row->rport = entry->rport;
	row->netns = BPF_CORE_READ(sk, __sk_common.skc_net.net, ns.inum);
	row->owner = entry->owner;
	row->cookie = BPF_CORE_READ(sk, __sk_common.skc_cookie.counter);
	row->ended = ended;
	row->side = entry->side;
	fill_addresses(row, sk);
	SUBMIT(sock_row, row);
}

/*
 * Ports that wanted tasks listen on. A new connection is nobody's until it is accepted, and the
 * kernel keeps no way back from it to its listener: without this a filter about tasks would lose
 * the handshake and every segment that arrives before the accept. Of several listeners on one port
 * the last one counts.
 */
struct listener {
	__u32 netns, port;
};
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, struct listener);
	__type(value, __u8);
} listeners SEC(".maps");

static __always_inline struct listener listener_of(const struct sock *sk)
{
	struct listener key = {
		.netns = BPF_CORE_READ(sk, __sk_common.skc_net.net, ns.inum),
		.port = BPF_CORE_READ(sk, __sk_common.skc_num),
	};

	return key;
}

static __always_inline void note_listener(const struct sock *sk, bool wanted)
{
	struct listener key = listener_of(sk);
	__u8 one = 1;

	if (wanted)
		bpf_map_update_elem(&listeners, &key, &one, BPF_ANY);
	else
		bpf_map_delete_elem(&listeners, &key);
}

static __always_inline bool listener_wanted(const struct sock *sk)
{
	struct listener key = listener_of(sk);

	return bpf_map_lookup_elem(&listeners, &key) != 0;
}

static __always_inline struct sock_entry *find_sock(const struct sock *sk)
{
	__u64 key = (__u64)sk;

	return bpf_map_lookup_elem(&socks, &key);
}

static __always_inline struct sock_entry *add_sock(const struct sock *sk)
{
	struct sock_entry fresh = { .id = new_sock_id(), .wanted = !task_filter };
	__u64 key = (__u64)sk;

	if (!fresh.id)
		return 0;
	bpf_map_update_elem(&socks, &key, &fresh, BPF_NOEXIST);
	return bpf_map_lookup_elem(&socks, &key);
}

/* Both ports are known by now, but were not when the socket was defined: its later states were missed. */
static __always_inline bool ports_are_news(const struct sock *sk, struct sock_entry *entry)
{
	if (entry->lport && entry->rport)
		return false;
	learn_ports(entry, sk);
	return entry->lport && entry->rport;
}

/* The socket of an event in interrupt context. Null: the map is full. */
static __always_inline struct sock_entry *sock_of(const struct sock *sk)
{
	struct sock_entry *entry = find_sock(sk);

	if (entry)
		return entry;
	entry = add_sock(sk);
	if (entry && !entry->wanted)
		entry->wanted = listener_wanted(sk);
	if (entry && entry->wanted)
		define_sock(sk, entry, false);
	return entry;
}

/* The socket of an event that `tgid` caused: it owns the socket from now on if nobody did. */
static __always_inline struct sock_entry *sock_used_by(const struct sock *sk, __u32 tgid, bool wanted)
{
	struct sock_entry *entry = find_sock(sk);
	bool news = !entry;

	if (!entry)
		entry = add_sock(sk);
	if (!entry)
		return 0;
	if (ports_are_news(sk, entry))
		news = true;
	if (!entry->owner) {
		entry->owner = tgid;
		news = true;
	}
	if (wanted && !entry->wanted) {
		entry->wanted = 1;
		news = true;
	}
	if (news && entry->wanted)
		define_sock(sk, entry, false);
	return entry;
}

/* A socket of which an event of a task, wanted or not, tells nothing new: that is nearly always so. */
static __always_inline struct sock_entry *known_sock(const struct sock *sk, bool wanted)
{
	struct sock_entry *entry = find_sock(sk);

	if (!entry || !entry->owner || !entry->lport || !entry->rport || entry->wanted < wanted)
		return 0;
	return entry;
}

/*
 * The filters for a call of the current task, `who`: the socket to record it with, or null, counted as
 * filtered.
 */
#define WANTED_SOCK(entry, table, sk, who)                                        \
	struct sock_entry *entry = 0;                                             \
	bool current = wanted(who);                                               \
	if (!current && task_filter) {                                            \
		FILTERED(table);                                                  \
	} else if (!(entry = known_sock(sk, current)) &&                          \
		   !(entry = sock_used_by(sk, who >> 32, current))) {             \
		STATE_FULL(table);                                                \
	} else if (!gate || !group_enabled) {                                     \
		entry = 0;                                                        \
	} else if (!current || !sock_matches(sk, entry)) {                        \
		FILTERED(table);                                                  \
		entry = 0;                                                        \
	} else if (left_out(entry->id)) {                                         \
		LEFT_OUT(table);                                                  \
		entry = 0;                                                        \
	}

#endif
