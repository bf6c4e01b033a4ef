// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0
/*
 * Files as tasks use them: opens, reads and writes, calls about paths, syncs, and the `file` identity.
 *
 * One pair of programs on raw sys_enter and sys_exit serves all of it. With a tracepoint of its own for
 * each of the 48 calls there would be 96 programs, and other calls would cost as much: any tracepoint on
 * a system call sends all of them the kernel's slow way. Here they cost one look into a constant array.
 *
 * Arguments are read at the return, when what they point to is paged in, and so is the descriptor's
 * file. What is missed: io_uring and the kernel's own I/O, calls of 32-bit programs, calls that never
 * return; and a descriptor that another thread closed or replaced during the call has the wrong file.
 */
#include "running.bpf.h"
#include "file_calls.bpf.h"
#include "file.bpf.h"
#include "sample.bpf.h"
#include "thread.bpf.h"
#include "threshold.bpf.h"

#define FMODE_CREATED 0x100000
#define TEXT_SPACE    1024 /* a power of two; longer paths are cut */
#define NOT_KNOWN     0xffffffff
#define NO_OFFSET     (-1)
#define O_CREAT_WRONLY_TRUNC 01101
#define AT_REMOVEDIR  0x200
#define AT_EMPTY_PATH 0x1000

struct file_call {
	THREAD;
	__u64 began; /* 0: no call is in flight, or nobody saw it begin */
};
THREADS(file_calls, struct file_call);

/* A record with paths: the text begins at the same place whatever the table. */
#define HEAD 56
struct path_record {
	union {
		char head[HEAD];
		struct file_open open;
		struct path_call path;
	};
	char text[2 * TEXT_SPACE];
};
_Static_assert(sizeof(struct file_open) == HEAD && sizeof(struct path_call) == HEAD, "text follows the head");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct path_record);
} path_scratch SEC(".maps");

struct open_how {
	__u64 flags, mode;
};

/* Time since the entry of the call that now returns; 0: that was not seen. */
static __always_inline __u64 latency(__u64 now)
{
	struct file_call *call = FIND_THREAD(file_calls, running_ids());
	__u64 since;

	if (!call || !call->began)
		return 0;
	since = now - call->began;
	call->began = 0;
	return since;
}

/* Whether it took less than is to be recorded; its paths and files are then left alone. */
static __always_inline bool was_short(__u32 tid)
{
	struct file_call *call = min_latency ? FIND_THREAD(file_calls, tid) : 0;

	if (!call || !too_short(call->began, bpf_ktime_get_ns()))
		return false;
	call->began = 0;
	return true;
}

/* ---- paths ---- */

static __always_inline struct path_record *start_path(__u32 table)
{
	__u32 zero = 0;
	struct path_record *r = bpf_map_lookup_elem(&path_scratch, &zero);

	if (!r)
		return 0;
	__builtin_memset(r->head, 0, HEAD);
	fill_header((struct header *)r, table, bpf_ktime_get_ns());
	return r;
}

/* Appends the path that an argument points to; `at` moves on. */
static __always_inline str_t read_path(struct path_record *r, __u32 *at, __u64 pointer)
{
	__u32 begin = *at & (TEXT_SPACE - 1);
	str_t text = { .off = HEAD + begin };
	long length = bpf_probe_read_user_str(r->text + begin, TEXT_SPACE, (void *)pointer);

	if (length > 1) {
		text.len = length - 1; /* the helper counts the NUL */
		*at = begin + text.len;
	}
	return text;
}

/* The directory that a path starts from; 0 for an absolute one. */
static __always_inline file_id base_of(struct path_record *r, str_t path, struct pt_regs *regs, __u8 dir)
{
	if (path.len && r->text[(path.off - HEAD) & (TEXT_SPACE - 1)] == '/')
		return 0;
	return id_of_base(dir ? argument(regs, dir) : AT_FDCWD);
}

static __always_inline void send_path(struct path_record *r, __u32 table, __u32 text)
{
	output(r, table, HEAD + (text & (2 * TEXT_SPACE - 1)));
}

/* ---- opens ---- */

static __always_inline void fill_flags(struct file_open *e, const volatile struct call *call, struct pt_regs *regs)
{
	struct open_how how = {};

	if (call->how) {
		bpf_probe_read_user(&how, sizeof(how), (void *)argument(regs, call->how));
		e->flags = how.flags;
		e->mode = how.mode;
		return;
	}
	e->flags = call->flags ? argument(regs, call->flags) : O_CREAT_WRONLY_TRUNC;
	e->mode = argument(regs, call->mode);
}

static __always_inline void open_end(const volatile struct call *call, struct pt_regs *regs, long ret)
{
	struct path_record *r = start_path(TABLE(file_open));
	struct file *file;
	__u32 text = 0;

	if (!r)
		return;
	r->open.tid = running_ids();
	r->open.ret = ret;
	r->open.latency = latency(r->open.ts);
	fill_flags(&r->open, call, regs);
	r->open.path = read_path(r, &text, argument(regs, call->path));
	r->open.dir = base_of(r, r->open.path, regs, call->dir);
	file = ret < 0 ? 0 : file_of_fd(ret);
	if (file) {
		r->open.file = id_of_file(file);
		r->open.created = (BPF_CORE_READ(file, f_mode) & FMODE_CREATED) != 0;
	}
	send_path(r, TABLE(file_open), text);
}

/* ---- other calls with a path ---- */

static __always_inline enum path_op op_of(const volatile struct call *call, __u32 flags)
{
	return call->op == PATH_unlink && flags & AT_REMOVEDIR ? PATH_rmdir : call->op;
}

/* With an empty path the call is about the descriptor: so the C library makes its fstat. */
static __always_inline void settle_empty(struct path_call *e)
{
	if (e->path.len || !(e->flags & AT_EMPTY_PATH))
		return;
	e->file = e->dir;
	e->dir = 0;
	if (e->op == PATH_stat)
		e->op = PATH_fstat;
}

static __always_inline void path_end(const volatile struct call *call, struct pt_regs *regs, long ret)
{
	struct path_record *r = start_path(TABLE(path_call));
	__u32 text = 0;

	if (!r)
		return;
	r->path.tid = running_ids();
	r->path.ret = ret;
	r->path.latency = latency(r->path.ts);
	r->path.flags = argument(regs, call->flags);
	r->path.op = op_of(call, r->path.flags);
	if (call->fd)
		r->path.file = id_of_fd(argument(regs, call->fd));
	if (call->path) {
		r->path.path = read_path(r, &text, argument(regs, call->path));
		r->path.dir = base_of(r, r->path.path, regs, call->dir);
		settle_empty(&r->path);
	}
	if (call->path2) {
		r->path.path2 = read_path(r, &text, argument(regs, call->path2));
		r->path.dir2 = call->op == PATH_symlink ? 0 : base_of(r, r->path.path2, regs, call->dir2);
	}
	send_path(r, TABLE(path_call), text);
}

/* ---- reads and writes ---- */

/* The position behind the bytes that were moved is the file's own; other kinds of files have none. */
static __always_inline __s64 offset_of(const struct file *file, long ret)
{
	__u32 type = BPF_CORE_READ(file, f_inode, i_mode) >> S_IFMT_SHIFT;

	if (type != TYPE_file && type != TYPE_block)
		return NO_OFFSET;
	return BPF_CORE_READ(file, f_pos) - (ret > 0 ? ret : 0);
}

static __always_inline void io_end(const volatile struct call *call, struct pt_regs *regs, long ret)
{
	struct file *file = file_of_fd(argument(regs, call->fd));
	file_id id = file ? id_of_file(file) : 0; /* before the reservation: it may send a row of its own */
	struct file_io *e = RESERVE(file_io);

	if (!e)
		return;
	e->tid = running_ids();
	e->file = id;
	e->op = call->op;
	e->ret = ret;
	e->requested = call->size ? argument(regs, call->size) : NOT_KNOWN;
	e->offset = NO_OFFSET;
	if (call->at)
		e->offset = argument(regs, call->at);
	else if (file)
		e->offset = offset_of(file, ret);
	e->latency = latency(e->ts);
	SUBMIT(file_io, e);
}

/* ---- syncs ---- */

static __always_inline void sync_end(const volatile struct call *call, struct pt_regs *regs, long ret)
{
	file_id id = call->fd ? id_of_fd(argument(regs, call->fd)) : 0;
	struct file_sync *e = RESERVE(file_sync);

	if (!e)
		return;
	e->tid = running_ids();
	e->op = call->op;
	e->file = id;
	e->ret = ret;
	e->latency = latency(e->ts);
	SUBMIT(file_sync, e);
}

/* ---- the programs ---- */

static __always_inline __u32 table_of(__u8 kind)
{
	switch (kind) {
	case OPEN:
		return TABLE(file_open);
	case IO:
		return TABLE(file_io);
	case PATH:
		return TABLE(path_call);
	default:
		return TABLE(file_sync);
	}
}

#define __file_probes                                                                 \
	__probe(file_open, 1, "tracepoint") __probe(file_io, 1, "tracepoint")          \
	__probe(path_op, 1, "tracepoint") __probe(file_sync, 1, "tracepoint")

SEC("tp_btf/sys_enter") __file_probes __notes
int BPF_PROG(call__enter, struct pt_regs *regs, long nr)
{
	struct file_call *call;
	__u64 who;

	if (!gate || !call_of(nr) || want_port || is_32bit())
		return 0;
	who = running_ids();
	if (!wanted(who) || left_out(who >> 32))
		return 0;
	call = FIND_THREAD(file_calls, who);
	if (!call)
		call = MAKE_THREAD(file_calls, who);
	if (call)
		call->began = bpf_ktime_get_ns();
	return 0;
}

SEC("tp_btf/sys_exit") __file_probes
int BPF_PROG(call__exit, struct pt_regs *regs, long ret)
{
	const volatile struct call *call = call_of(number_of(regs));
	__u64 who;

	if (!gate || !call || is_32bit())
		return 0;
	who = running_ids();
	if (want_port || !wanted(who))
		count_filtered(table_of(call->table));
	else if (left_out(who >> 32))
		count_left_out(table_of(call->table));
	else if (was_short(who))
		count_filtered(table_of(call->table));
	else if (call->table == OPEN)
		open_end(call, regs, ret);
	else if (call->table == IO)
		io_end(call, regs, ret);
	else if (call->table == PATH)
		path_end(call, regs, ret);
	else
		sync_end(call, regs, ret);
	return 0;
}

SEC("tp_btf/sched_process_exit") __file_probes __notes
int BPF_PROG(call_forget__tp, struct task_struct *task)
{
	DROP_THREAD(file_calls, current_tid());
	return 0;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
