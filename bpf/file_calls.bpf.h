/* SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0 */
/*
 * The system calls about files: which table a call belongs to, what it does, and which of its
 * arguments are what. One row per call; the programs in file.bpf.c know no call by name.
 */
#ifndef TAPEDECK_FILE_CALLS_H
#define TAPEDECK_FILE_CALLS_H

enum { OPEN = 1, IO, PATH, SYNC };

/* Positions of arguments count from 1; 0: the call has none such. */
struct call {
	__u8 table, op;
	__u8 fd, dir, path, dir2, path2, flags;
	__u8 mode, size, at, how;
};

#define CALLS 512

#if defined(__TARGET_ARCH_x86)
#define NR(x86, arm64) x86
#else
#define NR(x86, arm64) arm64
#endif

const volatile struct call calls[CALLS] = {
	[NR(0, 63)]    = { IO, IO_read, .fd = 1, .size = 3 },
	[NR(17, 67)]   = { IO, IO_read, .fd = 1, .size = 3, .at = 4 },  /* pread64 */
	[NR(19, 65)]   = { IO, IO_read, .fd = 1 },                      /* readv */
	[NR(295, 69)]  = { IO, IO_read, .fd = 1, .at = 4 },             /* preadv */
	[NR(327, 286)] = { IO, IO_read, .fd = 1, .at = 4 },             /* preadv2 */
	[NR(1, 64)]    = { IO, IO_write, .fd = 1, .size = 3 },
	[NR(18, 68)]   = { IO, IO_write, .fd = 1, .size = 3, .at = 4 }, /* pwrite64 */
	[NR(20, 66)]   = { IO, IO_write, .fd = 1 },                     /* writev */
	[NR(296, 70)]  = { IO, IO_write, .fd = 1, .at = 4 },            /* pwritev */
	[NR(328, 287)] = { IO, IO_write, .fd = 1, .at = 4 },            /* pwritev2 */

	[NR(257, 56)]  = { OPEN, .dir = 1, .path = 2, .flags = 3, .mode = 4 },
	[NR(437, 437)] = { OPEN, .dir = 1, .path = 2, .how = 3 },       /* openat2 */

	[NR(162, 81)]  = { SYNC, SYNC_sync },
	[NR(306, 267)] = { SYNC, SYNC_syncfs, .fd = 1 },
	[NR(74, 82)]   = { SYNC, SYNC_fsync, .fd = 1 },
	[NR(75, 83)]   = { SYNC, SYNC_fdatasync, .fd = 1 },
	[NR(26, 227)]  = { SYNC, SYNC_msync },
	[NR(277, 84)]  = { SYNC, SYNC_sync_file_range, .fd = 1 },

	[NR(262, 79)]  = { PATH, PATH_stat, .dir = 1, .path = 2, .flags = 4 }, /* newfstatat */
	[NR(5, 80)]    = { PATH, PATH_fstat, .fd = 1 },
	[NR(332, 291)] = { PATH, PATH_statx, .dir = 1, .path = 2, .flags = 3 },
	[NR(137, 43)]  = { PATH, PATH_statfs, .path = 1 },
	[NR(138, 44)]  = { PATH, PATH_fstatfs, .fd = 1 },
	[NR(269, 48)]  = { PATH, PATH_access, .dir = 1, .path = 2 },    /* faccessat */
	[NR(439, 439)] = { PATH, PATH_access, .dir = 1, .path = 2, .flags = 4 },
	[NR(267, 78)]  = { PATH, PATH_readlink, .dir = 1, .path = 2 },
	[NR(263, 35)]  = { PATH, PATH_unlink, .dir = 1, .path = 2, .flags = 3 },
	[NR(258, 34)]  = { PATH, PATH_mkdir, .dir = 1, .path = 2 },
	[NR(259, 33)]  = { PATH, PATH_mknod, .dir = 1, .path = 2 },
	[NR(264, 38)]  = { PATH, PATH_rename, .dir = 1, .path = 2, .dir2 = 3, .path2 = 4 },
	[NR(316, 276)] = { PATH, PATH_rename, .dir = 1, .path = 2, .dir2 = 3, .path2 = 4, .flags = 5 },
	[NR(265, 37)]  = { PATH, PATH_link, .dir = 1, .path = 2, .dir2 = 3, .path2 = 4, .flags = 5 },
	[NR(266, 36)]  = { PATH, PATH_symlink, .dir = 2, .path = 3, .path2 = 1 },
	[NR(76, 45)]   = { PATH, PATH_truncate, .path = 1 },
	[NR(77, 46)]   = { PATH, PATH_ftruncate, .fd = 1 },

#if defined(__TARGET_ARCH_x86) /* the older calls, which later architectures never had */
	[2]   = { OPEN, .path = 1, .flags = 2, .mode = 3 },
	[85]  = { OPEN, .path = 1, .mode = 2 },                         /* creat */
	[4]   = { PATH, PATH_stat, .path = 1 },
	[6]   = { PATH, PATH_lstat, .path = 1 },
	[21]  = { PATH, PATH_access, .path = 1 },
	[89]  = { PATH, PATH_readlink, .path = 1 },
	[87]  = { PATH, PATH_unlink, .path = 1 },
	[84]  = { PATH, PATH_rmdir, .path = 1 },
	[83]  = { PATH, PATH_mkdir, .path = 1 },
	[133] = { PATH, PATH_mknod, .path = 1 },
	[82]  = { PATH, PATH_rename, .path = 1, .path2 = 2 },
	[86]  = { PATH, PATH_link, .path = 1, .path2 = 2 },
	[88]  = { PATH, PATH_symlink, .path = 2, .path2 = 1 },
#endif
};

static __always_inline __u64 argument(struct pt_regs *regs, __u32 position)
{
	switch (position) {
	case 1:
		return PT_REGS_PARM1_CORE_SYSCALL(regs);
	case 2:
		return PT_REGS_PARM2_CORE_SYSCALL(regs);
	case 3:
		return PT_REGS_PARM3_CORE_SYSCALL(regs);
	case 4:
		return PT_REGS_PARM4_CORE_SYSCALL(regs);
	case 5:
		return PT_REGS_PARM5_CORE_SYSCALL(regs);
	default:
		return 0;
	}
}

/*
 * The row of a call, or null if it is none about files. A 32-bit program on a 64-bit kernel has
 * other numbers: its calls are not recorded.
 */
static __always_inline const volatile struct call *call_of(long nr)
{
	const volatile struct call *call;

	if (nr < 0 || nr >= CALLS)
		return 0;
	call = &calls[nr];
	return call->table ? call : 0;
}

static __always_inline bool is_32bit(void)
{
	struct task_struct *task = running_task();

#if defined(__TARGET_ARCH_x86)
	return BPF_CORE_READ(task, thread_info.status) & 2; /* TS_COMPAT */
#else
	return BPF_CORE_READ(task, thread_info.flags) & (1 << 22); /* TIF_32BIT */
#endif
}

static __always_inline long number_of(struct pt_regs *regs)
{
#if defined(__TARGET_ARCH_x86)
	return regs->orig_ax;
#else
	return ((struct pt_regs___arm64_call *)regs)->syscallno;
#endif
}

#endif
