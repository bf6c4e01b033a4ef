/* SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0 */
/* The records of `rec`: the fields of the tables of the same events in bpf/event.h. */
#ifndef REC_H
#define REC_H

#define HEAD __u64 ts; __u16 kind, cpu; __u32 tid

struct rec_recv { HEAD; __u64 sock, latency; __s32 ret; __u32 seq, flags, unused; };
struct rec_send { HEAD; __u64 sock, latency; __s32 ret; __u32 requested, seq, flags, exact, unused; };
struct rec_state {
	HEAD;
	__u64 sock, acked, received;
	__u32 segs_out, segs_in, retrans, srtt;
	__u8 old, new;
	__u16 backlog;
	__u32 unused;
};
struct rec_rx {
	HEAD;
	__u64 sock;
	__u32 seq, ack, len, srtt, cwnd;
	__u16 flags;
	__u8 state, unused;
};
struct rec_call { HEAD; __u64 args[6]; __u32 nr, unused; };
struct rec_return { HEAD; __s64 ret; __u32 nr, unused; };
struct rec_switch { HEAD; __u32 next, state; };
struct rec_wakeup { HEAD; __u32 wakee, target; };
struct rec_fork { HEAD; __u32 child, flags; };
struct rec_exec { HEAD; __u32 argc, unused; char file[64]; };
struct rec_syscall { HEAD; __u64 latency; __s64 ret; __u32 nr; __u16 errno, unused; };
struct rec_accept { HEAD; __u32 fd, unused; };
struct rec_exit { HEAD; __u64 age, utime, stime; __u32 code, unused; };

#endif
