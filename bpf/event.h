/* SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0 */
/*
 * The tables of a trace, each declared once, as the C struct that a probe fills.
 *
 * The object's own BTF carries every name, offset, width, sign and tag below. `capture` reads
 * the table definitions from it, writes them into the trace, and turns records into columns
 * with one generic loop; `analyze` learns the tables from the file. A new event kind is
 * therefore one struct here and one program in a family file, and nothing in Rust.
 *
 * Rules for a struct here:
 *  - it starts with EVENT or TASK_EVENT, is tagged __event or __identity, and has no padding
 *    that is not a named __skip member (a test checks this);
 *  - fields are integers of 1, 2, 4 or 8 bytes, enums (whose names go into table `enum`: what follows
 *    the first `_` of each), char arrays (text up to the first NUL), ip6_t, str_t for text of any
 *    length that trails the struct, or stack_id for frames that do;
 *  - units, references and "no value" markers come from the typedefs or are tagged in place.
 */
#ifndef TAPEDECK_EVENT_H
#define TAPEDECK_EVENT_H

#define __tag(text) __attribute__((btf_decl_tag(text)))

#define __unit(name)   __tag("unit:" name)   /* what one step of the number means */
#define __ref(table)   __tag("ref:" table)   /* the number is the key of that identity table */
#define __enum(name)   __tag("enum:" name)   /* the number's names are in table `enum` */
#define __null(value)  __tag("null:" #value) /* this value means "not known in this row" */
#define __by(column)   __tag("by:" column)   /* runs smoothly per value of that column: the writer's hint */
#define __span         __tag("span")         /* a duration that ended at the row's moment: the writer's hint for `ts` */
#define __doc(text)    __tag("doc:" text)
#define __skip         __tag("skip")         /* layout only: never a column */
#define __key          __tag("key")          /* the id that an identity row defines */
#define __ends         __tag("ends")         /* non-zero: the id is free; such a row only says that */
#define __renewed      __tag("renewed")      /* while an id is used, its row comes again every RENEWAL or sooner */
#define __other        __tag("other")        /* under a filter this reference alone brings no name into the file */
#define __hist         __tag("hist")         /* the writer keeps a histogram of it for the overview */
#define __totals(of)   __tag("totals:" of)   /* the footer has sums of that column by this id; "rows": counts alone */
#define __name(text)   __tag("name:" text)   /* the table is called so, since the kernel has a struct of that name */
#define __event        __tag("table:event")
#define __identity     __tag("table:identity")

typedef __u64 ns_t __unit("ns");          /* a duration */
typedef __u64 mono_t __unit("mono_ns");   /* a moment, CLOCK_MONOTONIC */
typedef __u32 bytes_t __unit("bytes");
typedef __u64 bytes64_t __unit("bytes");
typedef __u32 us_t __unit("us");
typedef __u32 task_id __ref("task");      /* thread id as the initial pid namespace has it */
typedef task_id other_id __other;          /* of a task that a filter may not have selected */
typedef __u32 sock_id __ref("sock");      /* ours: counts up over one recording, never used twice */
typedef __u32 file_id __ref("file");      /* ours, never used twice */
typedef __u32 disk_id __ref("disk");      /* device number, as stat(2) has it */
typedef __u32 seq_t __by("sock");         /* TCP sequence number */
typedef struct { __u8 byte[16]; } ip6_t __unit("ip");
typedef struct { __u16 off, len; } str_t __tag("trailing");
/* Frames that trail the struct; the recorder numbers each distinct stack once. See stack.bpf.h. */
typedef struct { __u16 off, len; } stack_id __tag("stack") __ref("stack") __null(0);

/* `table` picks the table of the record (filled in by EMIT from the struct's BTF id). */
#define EVENT                                                     \
	mono_t ts __doc("when the probe ran");                    \
	__u16 table __skip;                                       \
	__u16 cpu __doc("processor that ran the probe")

/* An event whose current task is the one that caused it. */
#define TASK_EVENT                                                \
	EVENT;                                                    \
	task_id tid __totals("rows") __doc("thread that caused the event")

/*
 * A row that programs add up in the kernel and the recorder takes out once per interval: see
 * `aggregate.bpf.h`. What follows up to the first sum is the key, the rest are the sums.
 */
#define AGGREGATE                                                 \
	mono_t ts __doc("last moment of the interval");           \
	__u16 table __skip;                                       \
	__u16 cpu __doc("processor that ran the probes");         \
	__u32 unused_head __skip;                                 \
	mono_t since __doc("first moment of the interval")

/* ---- identity: what the ids in events mean; a later row for the same id replaces the earlier ---- */

struct task_row {
	EVENT;
	task_id tid __key;
	task_id tgid __doc("process id");
	task_id ppid __null(0) __doc("parent's process id");
	__u32 uid;
	__u32 netns __doc("network namespace inode");
	mono_t start __doc("when the task was created");
	__u64 cgroup __doc("cgroup v2 id");
	__u32 mntns __doc("mount namespace inode");
	__u32 pidns __doc("pid namespace inode");
	char comm[16];
	__u32 ended __ends;
	__u32 kthread __doc("1: a kernel thread");
} __identity __name("task") __doc("thread or process; a new row at fork, exec, rename");

struct sock_row {
	EVENT;
	sock_id sock __key;
	__u16 family __enum("family");
	__u16 protocol;
	__u16 lport __doc("local port, host order");
	__u16 rport __doc("remote port, host order");
	ip6_t laddr __doc("local address; IPv4 as ::ffff:a.b.c.d with family 2");
	ip6_t raddr __doc("remote address");
	__u32 netns __doc("network namespace inode");
	task_id owner __null(0) __doc("process that connected, accepted, listens or first used it");
	__u64 cookie __null(0) __doc("the kernel's socket cookie, as ss -e prints it");
	__u32 ended __ends;
	__u32 side __null(0) __enum("side") __doc("server: accepted or listening, client: connected; null: open before the start");
} __identity __name("sock") __doc("one TCP connection or listener");

/* As i_mode has it; what has no type of its own (an eventfd, an epoll set) is `anon`. */
enum file_type {
	TYPE_anon = 0,
	TYPE_fifo = 1,
	TYPE_char = 2,
	TYPE_directory = 4,
	TYPE_block = 6,
	TYPE_file = 8,
	TYPE_link = 10,
	TYPE_socket = 12,
};

struct file_row {
	EVENT;
	file_id file __key;
	__u64 inode;
	__u32 dev __doc("device of the file system: major << 20 | minor");
	__u32 generation __doc("tells files apart that had the same inode number one after the other");
	enum file_type type;
	str_t path __doc("as the mount namespace has it; without a leading / if it is more than 60 directories deep");
	str_t name __doc("last part of the path");
	char fstype[16] __doc("type of the file system");
	__u32 unused __skip;
} __identity __renewed __name("file") __doc("a file, directory, pipe or socket, by the name it was last met under");

struct disk_row {
	EVENT;
	disk_id dev __key;
	char disk[32] __doc("name of the whole disk, as /proc/diskstats has it");
} __identity __name("disk") __doc("a block device, by the name that it had when a request for it was first met");

/* ---- group proc ---- */

struct process_fork {
	TASK_EVENT;
	task_id child __doc("the new thread");
	__u32 flags __doc("clone flags, low 32 bits");
} __event __doc("a new process or thread");

struct process_exec {
	TASK_EVENT;
	__s32 ret __unit("errno") __doc("0, or a negative error number");
	__u32 argc __doc("arguments that were read");
	str_t file __doc("path as it was given");
	str_t args __doc("arguments, each ended by a NUL");
	__u32 truncated __doc("1: more or longer arguments than we read");
	__u32 unused __skip;
} __event __doc("execve or execveat at its return");

struct process_exit {
	TASK_EVENT;
	__u32 code __doc("exit status, 0-255");
	__u32 signal __doc("number of the signal that killed it, or 0");
	__u32 core __doc("1: a core was dumped");
	__u32 last __doc("1: the last thread of its process");
	ns_t age __doc("time since the task was created");
	ns_t utime __doc("user CPU time of the thread");
	ns_t stime __doc("system CPU time of the thread");
} __event __doc("a thread's end");

struct task_rename {
	TASK_EVENT;
	char comm[16] __doc("the new name");
} __event __doc("a thread got a new name");

/* ---- group net ---- */

struct tcp_state {
	EVENT;
	task_id tid __totals("rows") __null(0) __doc("thread that caused the change; null where it runs in interrupt context");
	sock_id sock;
	__u8 old __enum("tcp_state");
	__u8 new __enum("tcp_state");
	__u16 backlog __doc("length of the accept queue asked for (only at LISTEN)");
	bytes64_t acked __doc("bytes sent and acknowledged so far, SYN and FIN counted");
	bytes64_t received __doc("bytes received so far, FIN counted");
	__u32 segs_out;
	__u32 segs_in;
	__u32 retrans __doc("segments retransmitted so far");
	us_t srtt __doc("smoothed round-trip time");
} __event __doc("a TCP socket changed its state");

struct sock_send {
	TASK_EVENT;
	sock_id sock __totals("ret");
	bytes_t requested __null(4294967295) __doc("size that the caller asked for");
	__s32 ret __unit("bytes") __doc("bytes accepted, or a negative error number");
	seq_t seq __doc("sequence number of the first byte");
	ns_t latency __null(0) __hist __span __doc("time inside tcp_sendmsg; from the lock on where a tracepoint is the source");
	__u32 flags __doc("MSG_ flags");
	__u32 exact __doc("1: seq was read under the socket lock, so it is right with several writers too");
} __event __doc("one call of tcp_sendmsg, at its return");

struct sock_recv {
	TASK_EVENT;
	sock_id sock __totals("ret");
	__s32 ret __unit("bytes") __doc("bytes handed to the caller, or a negative error number");
	seq_t seq __doc("sequence number after the last byte that was read");
	__u32 flags __doc("MSG_ flags; 2 is MSG_PEEK");
	ns_t latency __null(0) __hist __span __doc("time inside tcp_recvmsg, waiting included");
} __event __doc("one call of tcp_recvmsg, at its return");

struct sock_accept {
	TASK_EVENT;
	sock_id sock;
	__s32 fd __null(-1) __doc("new descriptor");
} __event __doc("a connection was accepted");

/* ---- group net-rx ---- */

struct tcp_rx {
	EVENT;
	sock_id sock;
	seq_t seq;
	seq_t ack;
	bytes_t len __doc("payload bytes");
	us_t srtt __doc("smoothed round-trip time before this segment");
	__u32 cwnd __unit("segments");
	__u16 flags __doc("TCP flags: FIN 1, SYN 2, RST 4, PSH 8, ACK 16");
	__u8 state __enum("tcp_state");
	__u8 backlog __doc("1: waited while the owner held the socket");
} __event __doc("a segment reached the TCP receive code of its socket");

struct tcp_slow {
	TASK_EVENT;
	sock_id sock;
	__u32 unused __skip;
	ns_t latency __hist __doc("from the entry of the turn's first send to the segment");
} __event __doc("new data came later after a send than --trigger tcplat.response allows; tid is the thread that sent");

/* ---- group file ---- */

struct file_open {
	TASK_EVENT;
	file_id file __null(0) __doc("what was opened");
	file_id dir __null(0) __doc("directory that a relative path starts from");
	__s32 ret __doc("descriptor, or a negative error number");
	__u32 flags __doc("O_ flags");
	__u32 mode __doc("permissions for a new file");
	__u32 created __doc("1: this call made the file");
	ns_t latency __null(0) __hist __span __doc("time from the call's entry to its return");
	str_t path __doc("as it was given");
	__u32 unused __skip;
} __event __doc("open, creat, openat or openat2 at its return");

enum io_op {
	IO_read = 1,
	IO_write = 2,
};

struct file_io {
	TASK_EVENT;
	file_id file __null(0);
	enum io_op op;
	bytes_t requested __null(4294967295) __doc("size asked for; null for calls with a vector");
	__s32 ret __unit("bytes") __doc("bytes read or written, or a negative error number");
	__s64 offset __null(-1) __unit("bytes") __doc("position in the file at which it began; null where there is none");
	ns_t latency __null(0) __hist __span __doc("time from the call's entry to its return");
} __event __doc("a call of the read or write family at its return, sockets and pipes included");

enum path_op {
	PATH_stat = 1,
	PATH_lstat,
	PATH_fstat,
	PATH_statx,
	PATH_statfs,
	PATH_fstatfs,
	PATH_access,
	PATH_readlink,
	PATH_unlink,
	PATH_rmdir,
	PATH_mkdir,
	PATH_mknod,
	PATH_rename,
	PATH_link,
	PATH_symlink,
	PATH_truncate,
	PATH_ftruncate,
};

struct path_call {
	TASK_EVENT;
	enum path_op op;
	file_id file __null(0) __doc("for calls on a descriptor: its file");
	file_id dir __null(0) __doc("directory that a relative path starts from");
	file_id dir2 __null(0) __doc("the same for path2");
	__s32 ret __unit("errno") __doc("0 or a length, or a negative error number");
	__u32 flags __doc("AT_, RENAME_ or STATX_ flags where the call has them");
	ns_t latency __null(0) __hist __span __doc("time from the call's entry to its return");
	str_t path __doc("as it was given; empty for calls on a descriptor");
	str_t path2 __doc("new name of a rename or link, target of a symlink");
} __event __name("path_op") __doc("a call about a path (stat, access, unlink, mkdir, rename, ...) at its return");

enum sync_op {
	SYNC_sync = 1,
	SYNC_syncfs,
	SYNC_fsync,
	SYNC_fdatasync,
	SYNC_msync,
	SYNC_sync_file_range,
};

struct file_sync {
	TASK_EVENT;
	enum sync_op op;
	file_id file __null(0) __doc("file of the descriptor, for calls that have one");
	__s32 ret __unit("errno") __doc("0, or a negative error number");
	__u32 unused __skip;
	ns_t latency __null(0) __hist __span __doc("time from the call's entry to its return");
} __event __doc("a call that waits for data to reach the disk, at its return");

/* ---- group syscalls ---- */

struct syscall {
	TASK_EVENT;
	__u16 syscall __enum("syscall") __doc("number; 32768 more if the caller used the 32-bit table");
	__u16 errno __enum("errno") __doc("error number that it returned, or 0");
	__u32 open __doc("1: had not returned when the recording ended; latency is the time until then");
	__s64 ret __doc("what it returned");
	ns_t latency __null(0) __hist __span __doc("from entry to return; null if it began before the recording");
} __event __doc("one system call, at its return (with --syscalls each)");

struct syscall_agg {
	AGGREGATE;
	task_id tgid __doc("process id");
	__u16 syscall __enum("syscall") __doc("number; 32768 more if the caller used the 32-bit table");
	__u16 errno __enum("errno") __doc("error number that they returned, or 0");
	__u32 slot __null(255) __doc("latency, as power of two: slot i holds 2^i to 2^(i+1) - 1 ns; null: began before the recording");
	__u32 open __doc("1: had not returned when the recording ended");
	__u64 calls __doc("how many");
	ns_t total __doc("sum of their latencies");
	ns_t longest __doc("the longest latency");
} __event __doc("system calls of one process, number, error and power of two of latency in an interval");

/* ---- group cpu ---- */

struct cpu_sample {
	TASK_EVENT;
	stack_id kstack __doc("kernel functions, innermost first; null: it ran in user mode");
	stack_id ustack __doc("user functions, innermost first; null: a kernel thread");
	ns_t period __doc("CPU time that the sample stands for");
	__u32 runnable __null(4294967295) __doc("tasks that ran or waited for this processor");
	__u32 unused __skip;
} __event __doc("what a processor was doing when the sampling clock ticked; idle processors are filtered out");

/* ---- group sched ---- */

struct sched_run {
	EVENT;
	task_id tid __totals("rows") __doc("task that left its processor");
	ns_t ran __hist __span __doc("how long it had run");
	__u32 state __doc("why it left: 0 it could have gone on, else the task state that it sleeps in");
	other_id next __null(0) __doc("task that came instead; null: the processor idles");
} __event __doc("a task left its processor");

struct sched_wait {
	EVENT;
	task_id tid __totals("rows") __doc("task that came to its processor");
	ns_t off __null(0) __hist __doc("since it had left a processor; null: before the recording, or a new task");
	ns_t queued __null(0) __hist __doc("since it could have run: woken, new, or made to leave");
	__u32 state __doc("why it had left: 0 it could have gone on, else the task state that it slept in");
	other_id prev __null(0) __doc("task that it replaced; null: the processor was idle");
	stack_id kstack __doc("kernel functions that it waits in; only with --min-wait");
	stack_id ustack __doc("user functions that it waits in, at most 64; only with --min-wait, for sleeps");
} __event __doc("a task came to its processor, after a wait");

/* Where a wakeup came from. */
enum wake_context {
	WAKE_task = 1,
	WAKE_softirq, /* what an interrupt left to do, or work that a task's own call begins, as loopback traffic is */
	WAKE_irq,
};

struct sched_wake {
	EVENT;
	task_id tid __totals("rows") __doc("task that was woken");
	ns_t blocked __hist __doc("how long it had slept");
	other_id waker __null(0) __doc("task that woke it; in a softirq, the one that ran; null: an interrupt, or an idle processor");
	__u32 state __doc("task state that it slept in");
	stack_id kstack __doc("kernel functions of the waker; only with --min-wait");
	stack_id ustack __doc("user functions of the waker, if a filter selects it; only with --min-wait");
	enum wake_context context __null(0) __doc("what woke it: a task, a softirq or an interrupt; null: this kernel does not tell");
	__u32 unused __skip;
} __event __doc("a sleeping task was woken");

struct sched_migrate {
	EVENT;
	task_id tid __doc("task that moved");
	__u32 from __doc("processor that it was on, or waited for");
	__u32 to __doc("processor that it is to run on");
} __event __doc("a task was moved to another processor; not with --min-wait");

/* ---- group stat ---- */

struct task_stat {
	EVENT;
	__u32 exited __doc("1: the last row of a thread, at its end");
	task_id tgid __doc("process id");
	task_id tid __totals("rows") __doc("thread that this is about");
	mono_t start __doc("when the thread was created");
	ns_t runtime __doc("CPU time, exact");
	ns_t utime __doc("user CPU time, as the kernel accounts it, perhaps by the tick");
	ns_t stime __doc("system CPU time, likewise");
	ns_t guest __doc("CPU time for a virtual machine, part of utime");
	ns_t wait __doc("time waiting for a CPU");
	ns_t io_wait __null(-1) __doc("time waiting for a disk; null without delay accounting");
	__u64 minor_faults;
	__u64 major_faults;
	__u64 voluntary __doc("switches because the thread had to wait");
	__u64 involuntary __doc("switches because another one was to run");
	bytes64_t read __null(-1) __doc("bytes read from disks");
	bytes64_t written __null(-1) __doc("bytes to be written to disks");
	bytes64_t cancelled __null(-1) __doc("bytes not to be written after all");
	bytes64_t vsz __null(0) __doc("size of the address space");
	bytes64_t rss __null(0) __doc("memory in use");
	bytes64_t stack __null(0) __doc("size of the stack's mapping");
	__u32 threads __doc("threads of the process");
	__u32 fds __null(4294967295) __doc("open descriptors of the process");
	__u32 processor __doc("where it ran last");
	__u32 priority __doc("as the scheduler has it: 100 to 139 normal, below 100 real time");
	__u32 policy __doc("0 normal, 1 FIFO, 2 round robin, 3 batch, 5 idle, 6 deadline");
	__u32 unused __skip;
} __event __doc("what a thread has used since it was created: at each interval and at its end");

/* ---- group block ---- */

enum block_part {
	PART_start = 1, /* a task asks */
	PART_insert,    /* into the scheduler's queue */
	PART_issue,     /* to the driver */
	PART_requeue,   /* the driver gave it back */
	PART_complete,
	PART_merge, /* it became part of another request */
};

/* Numbers that kernels have given to several operations, as those of zones, have no name here. */
enum block_op {
	OP_read,
	OP_write,
	OP_flush,
	OP_discard,
	OP_secure_erase = 5,
	OP_write_zeroes = 9,
	OP_driver_in = 34,
	OP_driver_out,
};

struct block_rq {
	EVENT;
	task_id tid __totals("rows") __null(0) __doc("thread that this part ran in: at the first part, the one that asked; null: an interrupt");
	__u64 rq __doc("address of the request; the same for all its parts, and used again after the last");
	__u64 sector __null(-1) __by("dev") __doc("first sector of 512 bytes, on the whole disk; null: a command to the driver");
	bytes_t bytes __doc("size; of a completion, what is done with it");
	bytes_t left __doc("of a completion, what is still to be done; 0: it was the last");
	disk_id dev __null(0);
	enum block_part part;
	enum block_op op;
	__u32 flags __doc("REQ_ flags: 2048 sync, 4096 metadata, 131072 forced to the medium, 262144 flush before, 524288 read-ahead");
	__s32 error __unit("errno") __doc("of a completion: 0, or a negative error number");
	__u32 unused __skip;
} __event __doc("one part of a request's way through the block layer");

struct block_slow {
	EVENT;
	disk_id dev __null(0);
	__u64 rq __doc("address of the request, as its parts have it");
	enum block_op op;
	__u32 unused __skip;
	ns_t latency __hist __doc("from the last issue to the last completion");
} __event __doc("a request took longer than --trigger biolatency allows");

#endif
