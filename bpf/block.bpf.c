// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0
/*
 * Requests to block devices, part by part: start, insert, issue, completion.
 *
 * Parts run in whatever context the kernel is in, so `analyze` joins them by the request's address, and
 * filters look at who asked: the first part runs in that task and decides for the others.
 */
#include "common.bpf.h"
#include "sample.bpf.h"

#define OP_MASK   0xff
#define FIRST_COMMAND 32 /* operations from here on are commands to the driver: they have no sector */

/* Requests that were decided against the rule: those of wanted tasks under a filter, else the recorder's own. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, __u64);
	__type(value, __u8);
} exceptions SEC(".maps");

/* By device number the address of the disk whose name was told. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, __u32);
	__type(value, __u64);
} told_disks SEC(".maps");

/* For a trigger on the time from issue to completion: its limit, ns; 0: there is none. */
const volatile __u64 limit_block = 0;

/* When the driver got a request, where there is such a limit. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 16384);
	__type(key, __u64);
	__type(value, __u64);
} issued SEC(".maps");

/* 3: the queue stands before the request, as it does until 5.10. */
const volatile __u32 params_of___traceiter_block_rq_issue = 0;

/* ---- disks ---- */

static __always_inline struct gendisk *disk_of(struct request *rq)
{
	struct request___until_5_16 *old = (struct request___until_5_16 *)rq;

	if (bpf_core_field_exists(old->rq_disk))
		return BPF_CORE_READ(old, rq_disk);
	return BPF_CORE_READ(rq, q, disk);
}

/* A number may be given to another disk, so the address is compared too. */
static __always_inline void tell_disk(struct gendisk *disk, __u32 dev)
{
	__u64 *told = bpf_map_lookup_elem(&told_disks, &dev), address = (__u64)disk;
	struct disk_row *d;

	if (told && *told == address)
		return;
	d = RESERVE(disk_row);
	if (!d)
		return;
	d->dev = dev;
	bpf_core_read(d->disk, sizeof(d->disk), &disk->disk_name);
	SUBMIT(disk_row, d);
	bpf_map_update_elem(&told_disks, &dev, &address, BPF_ANY);
}

static __always_inline __u32 dev_of(struct request *rq)
{
	struct gendisk *disk = disk_of(rq);
	__u32 dev, major, minor;

	if (!disk)
		return 0;
	major = BPF_CORE_READ(disk, major);
	minor = BPF_CORE_READ(disk, first_minor);
	dev = (minor & 0xff) | major << 8 | (minor & ~0xff) << 12;
	tell_disk(disk, dev);
	return dev;
}

/* ---- parts ---- */

/* Whether a part is to be recorded; if not, it is counted why. After the `last` part its address is free. */
static __always_inline bool wanted_part(struct request *rq, enum block_part part, bool last)
{
	__u64 key = (__u64)rq;
	bool exception;
	__u8 one = 1;

	if (!gate)
		return false;
	exception = bpf_map_lookup_elem(&exceptions, &key) != 0;
	if (exception && (last || part == PART_start)) /* a start: whatever had this address before */
		bpf_map_delete_elem(&exceptions, &key);
	if (exception && part == PART_start)
		exception = false;
	if (!exception && part <= PART_issue && !want_port && current_wanted() == any_filter) {
		if (bpf_map_update_elem(&exceptions, &key, &one, BPF_ANY)) {
			STATE_FULL(block_rq);
			return false;
		}
		exception = true;
	}
	if (exception != any_filter) {
		FILTERED(block_rq);
		return false;
	}
	if (left_out(key >> 5)) { /* requests are alike in the lower bits of their addresses */
		LEFT_OUT(block_rq);
		return false;
	}
	return true;
}

static __always_inline void emit(struct request *rq, enum block_part part, __u64 now, __u32 done, __s32 error)
{
	__u32 dev = dev_of(rq), size = BPF_CORE_READ(rq, __data_len), flags = BPF_CORE_READ(rq, cmd_flags);
	struct block_rq *e = RESERVE_AT(block_rq, now);

	if (!e)
		return;
	e->tid = part <= PART_issue ? current_tid() : 0;
	e->rq = (__u64)rq << 8 >> 8;
	e->sector = (flags & OP_MASK) < FIRST_COMMAND ? BPF_CORE_READ(rq, __sector) : -1;
	e->bytes = part == PART_complete ? done : size;
	e->left = part == PART_complete && size > done ? size - done : 0;
	e->dev = dev;
	e->part = part;
	e->op = flags & OP_MASK;
	e->flags = flags & ~OP_MASK;
	e->error = error;
	SUBMIT(block_rq, e);
}

/* Before 5.16 it is an error number; then a status, of which these have the same number in all kernels. */
static const __s32 errors[] = {
	0, -95 /* EOPNOTSUPP */, -110 /* ETIMEDOUT */, -28 /* ENOSPC */, -67 /* ENOLINK */, -121 /* EREMOTEIO */,
	-52 /* EBADE */, -61 /* ENODATA */, -84 /* EILSEQ */, -12 /* ENOMEM */, -5 /* EIO */, -78 /* EREMCHG */,
	-11 /* EAGAIN */, -16 /* EBUSY */,
};
#define ERRORS (sizeof(errors) / sizeof(errors[0]))
#define EIO    5

static __always_inline __s32 error_of(__u64 arg)
{
	__s32 error = arg;
	__u32 status = (__u8)arg;

	if (error <= 0)
		return error;
	return status < ERRORS ? errors[status] : -EIO;
}

/*
 * Raw tracepoints, since they hand out numbers: arithmetic is not allowed on the typed pointers of tp_btf, and an
 * address is recorded without its upper byte, which is the same in all addresses of the kernel.
 *
 * The context of a tracepoint whose only argument is the request, but for the queue before it in old kernels.
 */
static __always_inline struct request *request_of(__u64 *ctx)
{
	return (struct request *)(params_of___traceiter_block_rq_issue == 3 ? ctx[1] : ctx[0]);
}

static __always_inline int handle(struct request *rq, enum block_part part)
{
	if (wanted_part(rq, part, part == PART_merge))
		emit(rq, part, bpf_ktime_get_ns(), 0, 0);
	return 0;
}

/* The rows have the moments that the limit is compared with, so that a slow request's latency is their difference. */
static __always_inline void watch_issue(struct request *rq, __u64 now)
{
	__u64 key = (__u64)rq;

	if (bpf_map_update_elem(&issued, &key, &now, BPF_ANY))
		STATE_FULL(block_slow);
}

/* Its last part is done. */
static __always_inline void watch_end(struct request *rq, __u64 now)
{
	__u64 key = (__u64)rq, *since = bpf_map_lookup_elem(&issued, &key), latency;
	struct block_slow *e;
	__u32 dev;

	if (!since)
		return;
	latency = now - *since;
	bpf_map_delete_elem(&issued, &key);
	if (latency < limit_block)
		return;
	dev = dev_of(rq);
	e = RESERVE_AT(block_slow, now);
	if (!e)
		return;
	e->rq = key << 8 >> 8;
	e->dev = dev;
	e->op = BPF_CORE_READ(rq, cmd_flags) & OP_MASK;
	e->latency = latency;
	SUBMIT(block_slow, e);
}

/* Where it exists (6.5), and the disk keeps statistics, it is the earliest part, and always in the task that asks. */
SEC("raw_tp/block_io_start") __probe(block_start, 1, "tracepoint") __fills(block_rq)
int block_start__tp(__u64 *ctx)
{
	return handle((struct request *)ctx[0], PART_start);
}

SEC("raw_tp/block_rq_insert") __probe(block_rq, 1, "tracepoint")
int block_insert__tp(__u64 *ctx)
{
	return handle(request_of(ctx), PART_insert);
}

SEC("raw_tp/block_rq_issue") __probe(block_rq, 1, "tracepoint")
int block_issue__tp(__u64 *ctx)
{
	struct request *rq = request_of(ctx);
	__u64 now = bpf_ktime_get_ns();

	if (!wanted_part(rq, PART_issue, false))
		return 0;
	if (limit_block)
		watch_issue(rq, now);
	emit(rq, PART_issue, now, 0, 0);
	return 0;
}

SEC("raw_tp/block_rq_complete") __probe(block_rq, 1, "tracepoint")
int block_complete__tp(__u64 *ctx)
{
	struct request *rq = (struct request *)ctx[0];
	__u64 now = bpf_ktime_get_ns();
	__u32 done = ctx[2];
	bool last = done >= BPF_CORE_READ(rq, __data_len);

	if (!wanted_part(rq, PART_complete, last))
		return 0;
	if (limit_block && last)
		watch_end(rq, now);
	emit(rq, PART_complete, now, done, error_of(ctx[1]));
	return 0;
}

SEC("raw_tp/block_rq_requeue") __probe(block_requeue, 1, "tracepoint") __fills(block_rq)
int block_requeue__tp(__u64 *ctx)
{
	return handle(request_of(ctx), PART_requeue);
}

SEC("raw_tp/block_rq_merge") __probe(block_merge, 1, "tracepoint") __fills(block_rq)
int block_merge__tp(__u64 *ctx)
{
	return handle(request_of(ctx), PART_merge);
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
