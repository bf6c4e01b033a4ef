/* SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0 */
/*
 * The kernel types that we read, and of them only the members that we read: the list of kernel
 * facts that the recorder relies on. libbpf moves every access to where the running kernel's BTF
 * says the member is, so neither order nor offsets here matter, only names.
 */
#ifndef __VMLINUX_H__
#define __VMLINUX_H__

typedef signed char __s8;
typedef unsigned char __u8;
typedef short __s16;
typedef unsigned short __u16;
typedef int __s32;
typedef unsigned int __u32;
typedef long long __s64;
typedef unsigned long long __u64;
typedef __u8 u8;
typedef __s16 s16;
typedef __u16 u16;
typedef __s32 s32;
typedef __u32 u32;
typedef __s64 s64;
typedef __u64 u64;
typedef __u16 __be16;
typedef __u32 __be32;
typedef __u32 __wsum;
typedef _Bool bool;
enum { false = 0, true = 1 };

enum bpf_map_type {
	BPF_MAP_TYPE_HASH = 1,
	BPF_MAP_TYPE_ARRAY = 2,
	BPF_MAP_TYPE_PERCPU_HASH = 5,
	BPF_MAP_TYPE_PERCPU_ARRAY = 6,
	BPF_MAP_TYPE_LRU_HASH = 9,
	BPF_MAP_TYPE_ARRAY_OF_MAPS = 12,
	BPF_MAP_TYPE_RINGBUF = 27,
};
enum { BPF_ANY = 0, BPF_NOEXIST = 1 };
enum { BPF_F_NO_PREALLOC = 1 };
enum { BPF_F_USER_STACK = 1 << 8 };
enum { BPF_RB_NO_WAKEUP = 1, BPF_RB_FORCE_WAKEUP = 2 };

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

/* ---- tasks ---- */
struct list_head {
	struct list_head *next;
};
struct ns_common {
	unsigned int inum;
};
struct net {
	struct ns_common ns;
};
struct mnt_namespace {
	struct ns_common ns;
};
struct pid_namespace {
	struct ns_common ns;
};
struct nsproxy {
	struct mnt_namespace *mnt_ns;
	struct pid_namespace *pid_ns_for_children;
	struct net *net_ns;
};
typedef struct {
	u32 val;
} kuid_t;
struct cred {
	kuid_t uid;
};
struct kernfs_node {
	u64 id;
};
struct cgroup {
	struct kernfs_node *kn;
};
struct cgroup___until_6_0 {
	int level;
	u64 ancestor_ids[1];
};
struct cgroup___since_6_0 {
	int level;
	struct cgroup *ancestors[1];
};
struct css_set {
	struct cgroup *dfl_cgrp;
};
struct percpu_counter {
	s64 count;
};
struct mm_struct {
	unsigned long arg_start, arg_end;
	unsigned long total_vm, stack_vm;
	struct percpu_counter rss_stat[4];
};
struct atomic_long_array_member {
	s64 counter;
};
struct mm_rss_stat {
	struct atomic_long_array_member count[4];
};
struct mm_struct___until_6_2 {
	struct mm_rss_stat rss_stat;
};
struct qstr {
	union {
		struct {
			u32 hash, len;
		};
		u64 hash_len;
	};
	const unsigned char *name;
};
struct dentry {
	struct dentry *d_parent;
	struct qstr d_name;
	struct inode *d_inode;
};
struct vfsmount {
	struct dentry *mnt_root;
};
struct mount {
	struct mount *mnt_parent;
	struct dentry *mnt_mountpoint;
	struct vfsmount mnt;
};
struct path {
	struct vfsmount *mnt;
	struct dentry *dentry;
};
struct fs_struct {
	struct path pwd;
};
struct file_system_type {
	const char *name;
};
struct super_block {
	unsigned int s_dev;
	unsigned long s_magic;
	struct file_system_type *s_type;
};
struct inode {
	unsigned short i_mode;
	struct super_block *i_sb;
	unsigned long i_ino;
	u32 i_generation;
};
struct file {
	unsigned int f_mode;
	void *private_data;
	struct inode *f_inode;
	struct path f_path;
	s64 f_pos;
};
struct fdtable {
	unsigned int max_fds;
	struct file **fd;
	unsigned long *open_fds;
};
struct files_struct {
	struct fdtable *fdt;
};
typedef struct {
	int counter;
} atomic_t;
struct signal_struct {
	atomic_t live;
	int nr_threads;
};
struct sched_info {
	u64 run_delay;
};
struct task_io_accounting {
	u64 read_bytes, write_bytes, cancelled_write_bytes;
};
struct task_delay_info {
	u64 blkio_delay;
};
struct thread_info {
	unsigned long flags;
	u32 cpu;
	u32 status;
};
struct rq {
	struct task_struct *curr;
	unsigned int nr_running;
};
struct cfs_rq {
	struct rq *rq;
};
struct sched_entity {
	u64 sum_exec_runtime;
	struct cfs_rq *cfs_rq;
};
struct task_struct {
	struct thread_info thread_info;
	int pid, tgid;
	unsigned int flags;
	int exit_code;
	u64 start_time, utime, stime, gtime;
	unsigned long nvcsw, nivcsw, min_flt, maj_flt;
	int prio;
	unsigned int policy;
	struct sched_entity se;
	struct sched_info sched_info;
	struct task_io_accounting ioac;
	struct task_delay_info *delays;
	char comm[16];
	struct task_struct *real_parent;
	struct task_struct *group_leader;
	struct nsproxy *nsproxy;
	const struct cred *cred;
	struct css_set *cgroups;
	struct mm_struct *mm;
	struct files_struct *files;
	struct fs_struct *fs;
	struct signal_struct *signal;
};
struct task_struct___since_5_14 {
	unsigned int __state;
};
struct task_struct___until_5_13 {
	long state;
};
struct task_struct___until_5_16 {
	unsigned int cpu;
};
struct linux_binprm {
	const char *filename;
	int argc;
};

/* ---- sockets ---- */
struct in6_addr {
	union {
		__u8 u6_addr8[16];
	} in6_u;
};
typedef struct {
	struct net *net;
} possible_net_t;
struct sock_common {
	__be32 skc_daddr;
	__be32 skc_rcv_saddr;
	__be16 skc_dport;
	__u16 skc_num;
	unsigned short skc_family;
	volatile unsigned char skc_state;
	possible_net_t skc_net;
	struct in6_addr skc_v6_daddr;
	struct in6_addr skc_v6_rcv_saddr;
	struct {
		s64 counter;
	} skc_cookie;
};
typedef struct {
	int owned;
} socket_lock_t;
struct sock {
	struct sock_common __sk_common;
	socket_lock_t sk_lock;
	u16 sk_protocol;
	u16 sk_type;
	u32 sk_ack_backlog;
	u32 sk_max_ack_backlog;
};
struct inet_sock {
	struct sock sk;
};
struct inet_connection_sock {
	struct inet_sock icsk_inet;
};
struct tcp_sock {
	struct inet_connection_sock inet_conn;
	u32 write_seq, copied_seq;
	u32 srtt_us, snd_cwnd;
	u32 segs_out, segs_in, total_retrans;
	u64 bytes_acked, bytes_received;
};
struct socket {
	short type;
	struct sock *sk;
};
struct tcp_skb_cb {
	__u32 seq, end_seq, ack_seq;
	__u16 tcp_flags;
};
struct sk_buff {
	__be16 protocol;
	char cb[48];
};
struct iov_iter {
	unsigned long count;
};
struct msghdr {
	struct iov_iter msg_iter;
	unsigned int msg_flags;
};

/* ---- contexts ---- */
struct bpf_perf_event_data {
	u64 sample_period;
};
struct trace_entry {
	unsigned short type;
};
struct trace_event_raw_sys_enter {
	struct trace_entry ent;
	long id;
	unsigned long args[6];
};
struct trace_event_raw_sys_exit {
	struct trace_entry ent;
	long id;
	long ret;
};
struct trace_event_raw_task_newtask {
	struct trace_entry ent;
	int pid;
	unsigned long clone_flags;
};
struct seq_file;
struct bpf_iter_meta {
	struct seq_file *seq;
	u64 session_id, seq_num;
};
struct bpf_iter__task {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
};
struct bpf_iter__task_file {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
	u32 fd;
	struct file *file;
};
/* ---- block devices ---- */
struct gendisk {
	int major, first_minor;
	char disk_name[32];
};
struct request_queue {
	struct gendisk *disk;
};
struct request {
	struct request_queue *q;
	unsigned int cmd_flags;
	unsigned int __data_len;
	u64 __sector;
};
struct request___until_5_16 {
	struct gendisk *rq_disk;
};

struct pt_regs {
	unsigned long r15, r14, r13, r12, bp, bx, r11, r10, r9, r8, ax, cx, dx, si, di, orig_ax, ip, cs, flags, sp, ss;
};

struct user_pt_regs {
	u64 regs[31], sp, pc, pstate;
};
struct pt_regs___arm64_call {
	u64 pstate;
	s32 syscallno;
};

#pragma clang attribute pop
#endif
