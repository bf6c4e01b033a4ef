// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0
/*
 * TCP as the tasks see it: connection states, calls of tcp_sendmsg and tcp_recvmsg, accepts, and
 * the `sock` identity with sockets that existed before the start.
 */
#include "common.bpf.h"
#include "pending.bpf.h"
#include "sock.bpf.h"

#define S_IFMT    00170000
#define S_IFSOCK  0140000
#define MSG_PEEK  2
#define NOT_KNOWN 0xffffffff
#define SIDE_SERVER 1
#define SIDE_CLIENT 2

/* Set before load, from the kernel's type information; 0: that does not have the function. */
const volatile __u32 params_of_tcp_recvmsg = 0;

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

SEC("tp_btf/inet_sock_set_state") __probe(tcp_state, 1, "tracepoint") __keeps("sock")
int BPF_PROG(tcp_state__tp, const struct sock *sk, const int old, const int new)
{
	struct sock_entry *entry;

	if (!is_tcp(sk))
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
	struct socket *socket;
	struct sock *sk;
	__u32 tgid;
	__u8 *known;

	if (!task || !file)
		return 0;
	if ((BPF_CORE_READ(file, f_inode, i_mode) & S_IFMT) != S_IFSOCK)
		return 0;
	socket = BPF_CORE_READ(file, private_data);
	sk = BPF_CORE_READ(socket, sk);
	if (!sk || !is_tcp(sk))
		return 0;
	tgid = BPF_CORE_READ(task, tgid);
	known = filter_tgid ? bpf_map_lookup_elem(&wanted_tgids, &tgid) : 0;
	sock_used_by(sk, tgid, known != 0);
	if (known && BPF_CORE_READ(sk, __sk_common.skc_state) == LISTEN)
		note_listener(sk, true);
	return 0;
}

/* ---- sends ---- */

/* The first segment of a call: the task holds the socket's lock, so write_seq is where it begins. */
static __always_inline void send_locked(const struct sock *sk, struct pending_call *p)
{
	if (!p)
		return;
	p->seq = BPF_CORE_READ((const struct tcp_sock *)sk, write_seq);
	p->exact = 1;
}

static __always_inline void fill_send(struct sock_send *e, const struct sock *sk, struct pending_call *p)
{
	if (p) {
		e->latency = e->ts - p->ts;
		e->requested = p->size;
		e->exact = p->exact;
	} else {
		e->latency = 0;
		e->requested = NOT_KNOWN;
		e->exact = 0;
	}
	if (e->exact)
		e->seq = p->seq;
	else
		e->seq = BPF_CORE_READ((const struct tcp_sock *)sk, write_seq) - (e->ret > 0 ? e->ret : 0);
}

static __always_inline int send_end(const struct sock *sk, int ret, __u32 flags, struct pending_call *p)
{
	struct sock_send *e;

	WANTED_SOCK(entry, sock_send, sk);
	if (!entry)
		return 0;
	e = RESERVE(sock_send);
	if (!e)
		return 0;
	e->tid = current_tid();
	e->sock = entry->id;
	e->ret = ret;
	e->flags = flags;
	fill_send(e, sk, p);
	SUBMIT(sock_send, e);
	return 0;
}

static __always_inline struct pending_call *note_call(const struct sock *sk, __u32 size, __u32 flags)
{
	struct pending_call *p = start_call(sk);

	if (p) {
		p->size = size;
		p->flags = flags;
	}
	return p;
}

static __always_inline int call_starts(const struct sock *sk, __u32 size, __u32 flags)
{
	if (gate && group_enabled && current_wanted())
		note_call(sk, size, flags);
	return 0;
}

/* A kretprobe sees the returned value and nothing else: without the note, its call is lost. */
static __always_inline int noted_call_starts(__u32 table, const struct sock *sk, __u32 size, __u32 flags)
{
	struct pending_call *p;

	if (!gate || !group_enabled)
		return 0;
	if (!current_wanted()) {
		count_filtered(table);
		return 0;
	}
	count_unreturned(pending_call());
	p = note_call(sk, size, flags);
	if (p)
		p->table = table + 1;
	else
		count_state_full(table);
	return 0;
}

static __always_inline struct pending_call *call_on(const struct sock *sk)
{
	struct pending_call *p = pending_call();

	return p && p->sk == (__u64)sk ? p : 0;
}

SEC("fentry/tcp_sendmsg") __probe(sock_send, 1, "fentry") __notes
int BPF_PROG(send__fentry, struct sock *sk, struct msghdr *msg, __u64 size)
{
	return call_starts(sk, size, BPF_CORE_READ(msg, msg_flags));
}

SEC("fentry/tcp_sendmsg_locked") __probe(sock_send, 1, "fentry") __notes
int BPF_PROG(send_locked__fentry, struct sock *sk)
{
	send_locked(sk, call_on(sk));
	return 0;
}

SEC("fexit/tcp_sendmsg") __probe(sock_send, 1, "fentry")
int BPF_PROG(send__fexit, struct sock *sk, struct msghdr *msg, __u64 size, int ret)
{
	struct pending_call *p = end_call(sk);

	return send_end(sk, ret, p ? p->flags : 0, p);
}

SEC("kprobe/tcp_sendmsg") __probe(sock_send, 3, "kprobe")
int BPF_KPROBE(send__kprobe, struct sock *sk, struct msghdr *msg, __u64 size)
{
	return noted_call_starts(TABLE(sock_send), sk, size, BPF_CORE_READ(msg, msg_flags));
}

SEC("kprobe/tcp_sendmsg_locked") __probe(sock_send, 3, "kprobe") __notes
int BPF_KPROBE(send_locked__kprobe, struct sock *sk)
{
	send_locked(sk, call_on(sk));
	return 0;
}

SEC("kretprobe/tcp_sendmsg") __probe(sock_send, 3, "kprobe")
int BPF_KRETPROBE(send__kretprobe, int ret)
{
	struct pending_call *p = pending_call();
	const struct sock *sk = p ? (const struct sock *)p->sk : 0;

	if (!sk)
		return 0;
	end_call(sk);
	return send_end(sk, ret, p->flags, p);
}

/* Once per buffer segment inside the copy loop: only the first one of a call is its start. */
SEC("tp_btf/tcp_sendmsg_locked") __probe(sock_send, 2, "tracepoint") __notes
int BPF_PROG(send_locked__tp, const struct sock *sk, const struct msghdr *msg)
{
	if (call_on(sk) || !is_tcp(sk))
		return 0;
	call_starts(sk, BPF_CORE_READ(msg, msg_iter.count), BPF_CORE_READ(msg, msg_flags));
	send_locked(sk, call_on(sk));
	return 0;
}

SEC("tp_btf/sock_send_length") __probe(sock_send, 2, "tracepoint")
int BPF_PROG(send__tp, struct sock *sk, int ret, int flags)
{
	return is_tcp(sk) ? send_end(sk, ret, flags, end_call(sk)) : 0;
}

SEC("tp_btf/sock_send_length") __probe(sock_send, 4, "tracepoint")
__lacks("sock_send.requested,sock_send.latency")
int BPF_PROG(send_only_end__tp, struct sock *sk, int ret, int flags)
{
	return is_tcp(sk) ? send_end(sk, ret, flags, 0) : 0;
}

/* ---- receives ---- */

static __always_inline int recv_end(const struct sock *sk, int ret, __u32 flags, struct pending_call *p)
{
	struct sock_recv *e;

	WANTED_SOCK(entry, sock_recv, sk);
	if (!entry)
		return 0;
	e = RESERVE(sock_recv);
	if (!e)
		return 0;
	e->tid = current_tid();
	e->sock = entry->id;
	e->ret = ret;
	e->flags = flags;
	e->seq = BPF_CORE_READ((const struct tcp_sock *)sk, copied_seq);
	e->latency = p ? e->ts - p->ts : 0;
	SUBMIT(sock_recv, e);
	return 0;
}

SEC("fentry/tcp_recvmsg") __probe(sock_recv, 1, "fentry") __notes
int BPF_PROG(recv__fentry, struct sock *sk)
{
	return call_starts(sk, 0, 0);
}

/* Six parameters, five, or four (`nonblock` went away, then `addr_len`): ask, from 5.17 on. */
SEC("fexit/tcp_recvmsg") __probe(sock_recv, 1, "fentry")
int recv__fexit(__u64 *ctx)
{
	const struct sock *sk = (const struct sock *)ctx[0];
	__u64 ret = 0, flags = 0;

	bpf_get_func_ret(ctx, &ret);
	bpf_get_func_arg(ctx, bpf_get_func_arg_cnt(ctx) == 6 ? 4 : 3, &flags);
	return recv_end(sk, ret, flags, end_call(sk));
}

SEC("fentry/tcp_recvmsg") __probe(sock_recv, 2, "fentry") __notes
int BPF_PROG(recv_six__fentry, struct sock *sk)
{
	return call_starts(sk, 0, 0);
}

SEC("fexit/tcp_recvmsg") __probe(sock_recv, 2, "fentry")
int BPF_PROG(recv_six__fexit, struct sock *sk, void *msg, __u64 len, int nonblock, int flags, int *addr_len,
	     int ret)
{
	return recv_end(sk, ret, flags, end_call(sk));
}

SEC("tp_btf/sock_recv_length") __probe(sock_recv, 3, "tracepoint")
__lacks("sock_recv.latency")
int BPF_PROG(recv__tp, struct sock *sk, int ret, int flags)
{
	return is_tcp(sk) ? recv_end(sk, ret, flags, 0) : 0;
}

/* The flags are the fourth parameter; the fifth where `nonblock` goes before them, up to 5.18. */
SEC("kprobe/tcp_recvmsg") __probe(sock_recv, 4, "kprobe")
int BPF_KPROBE(recv__kprobe, struct sock *sk, void *msg, __u64 len, __u64 fourth, __u64 fifth)
{
	return noted_call_starts(TABLE(sock_recv), sk, 0, params_of_tcp_recvmsg == 6 ? fifth : fourth);
}

SEC("kretprobe/tcp_recvmsg") __probe(sock_recv, 4, "kprobe")
int BPF_KRETPROBE(recv__kretprobe, int ret)
{
	struct pending_call *p = pending_call();
	const struct sock *sk = p ? (const struct sock *)p->sk : 0;

	if (!sk)
		return 0;
	end_call(sk);
	return recv_end(sk, ret, p->flags, p);
}

/* ---- accepts ---- */

static __always_inline int accepted(const struct sock *sk, int fd)
{
	struct sock_accept *e;

	if (!sk || !is_tcp(sk))
		return 0;
	WANTED_SOCK(entry, sock_accept, sk);
	if (!entry)
		return 0;
	if (entry->side != SIDE_SERVER) {
		entry->side = SIDE_SERVER;
		define_sock(sk, entry, false);
	}
	if (task_filter) /* a listener from before the start may show itself only now */
		note_listener(sk, true);
	e = RESERVE(sock_accept);
	if (!e)
		return 0;
	e->tid = current_tid();
	e->sock = entry->id;
	e->fd = fd;
	SUBMIT(sock_accept, e);
	return 0;
}

/* From a descriptor of the current task to its socket: at the call's exit, when the file is there. */
static __always_inline const struct sock *sock_of_fd(int fd)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	struct file **table = BPF_CORE_READ(task, files, fdt, fd);
	struct file *file = 0;
	struct socket *socket;

	if (bpf_probe_read_kernel(&file, sizeof(file), &table[fd]) || !file)
		return 0;
	if ((BPF_CORE_READ(file, f_inode, i_mode) & S_IFMT) != S_IFSOCK)
		return 0;
	socket = BPF_CORE_READ(file, private_data);
	return BPF_CORE_READ(socket, sk);
}

SEC("tracepoint/syscalls/sys_exit_accept4") __probe(sock_accept, 1, "tracepoint")
int accept4__tp(struct trace_event_raw_sys_exit *ctx)
{
	return ctx->ret < 0 ? 0 : accepted(sock_of_fd(ctx->ret), ctx->ret);
}

SEC("tracepoint/syscalls/sys_exit_accept") __probe(sock_accept, 1, "tracepoint")
int accept__tp(struct trace_event_raw_sys_exit *ctx)
{
	return ctx->ret < 0 ? 0 : accepted(sock_of_fd(ctx->ret), ctx->ret);
}

SEC("fexit/inet_csk_accept") __probe(sock_accept, 2, "fentry")
__lacks("sock_accept.fd")
int accept__fexit(__u64 *ctx)
{
	__u64 ret = 0;

	bpf_get_func_ret(ctx, &ret);
	return accepted((const struct sock *)ret, -1);
}

/* Before 5.17 nobody can be asked for the return value, but it follows the parameters: four at that time. */
SEC("fexit/inet_csk_accept") __probe(sock_accept, 3, "fentry")
__lacks("sock_accept.fd")
int BPF_PROG(accept_four__fexit, struct sock *sk, int flags, int *err, bool kern, const struct sock *ret)
{
	return accepted(ret, -1);
}

SEC("kretprobe/inet_csk_accept") __probe(sock_accept, 4, "kprobe")
__lacks("sock_accept.fd")
int BPF_KRETPROBE(accept__kretprobe, const struct sock *sk)
{
	return accepted(sk, -1);
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
