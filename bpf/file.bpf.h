/* SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0 */
/*
 * File identity: from a descriptor of the current task to an id of ours, which stands for one
 * (device, inode, generation). The event that first meets a file announces it with its path, which
 * takes some microseconds, once; later events cost one lookup.
 *
 * The kernel does not say when nobody uses a file any more. So entries are not ended: the least
 * recently used one makes room, the file gets a new id when it is met again, and rows are announced
 * again every RENEWAL, so that the recorder can forget what it has not heard of for longer.
 */
#ifndef TAPEDECK_FILE_H
#define TAPEDECK_FILE_H

#define RENEWAL_SHIFT 35 /* ns: 34 s; capture/identity.rs keeps rows for longer than that */
#define S_IFMT_SHIFT  12
#define AT_FDCWD      (-100)
#define ANON_INODE_FS 0x09041934
#define STEPS         64   /* directories of a path and mounts that it crosses; a power of two */
#define NAME_SPACE    256
#define PATH_SPACE    2048 /* a power of two */

struct file_key {
	__u64 inode;
	__u32 dev, generation;
};
struct file_entry {
	file_id id;
	__u32 renewal;
	__u64 name; /* the kernel's hash of parent and name: another value means that it was renamed */
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__type(key, struct file_key);
	__type(value, struct file_entry);
} files SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} last_file_id SEC(".maps");

struct file_record {
	struct file_row row;
	char text[PATH_SPACE + NAME_SPACE];
	/*
	 * Behind what is sent. The counters are here and not in registers, so that the verifier finds all
	 * turns of a loop alike and follows one.
	 */
	struct dentry *parts[STEPS]; /* null where the path goes over to the file system mounted below */
	__u32 steps, whole, length, name;
};
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct file_record);
} file_scratch SEC(".maps");

/* ---- the path ---- */

static __always_inline struct mount *mount_of(struct vfsmount *mnt)
{
	return (struct mount *)((void *)mnt - bpf_core_field_offset(struct mount, mnt));
}

/* Notes the parts of a path, last one first, and whether they lead up to the root. */
static __always_inline void collect_parts(struct file_record *r, struct dentry *dentry, struct mount *mount)
{
	__u32 step;

	r->whole = 0;
	for (step = 0; step < STEPS; step++) {
		struct dentry *parent = BPF_CORE_READ(dentry, d_parent);

		if (dentry != parent && dentry != BPF_CORE_READ(mount, mnt.mnt_root)) {
			r->parts[step] = dentry;
			dentry = parent;
			continue;
		}
		r->parts[step] = 0;
		dentry = BPF_CORE_READ(mount, mnt_mountpoint);
		if (mount == BPF_CORE_READ(mount, mnt_parent)) {
			r->whole = 1;
			break;
		}
		mount = BPF_CORE_READ(mount, mnt_parent);
	}
	r->steps = step;
}

static __always_inline void append_name(struct file_record *r, struct dentry *dentry)
{
	__u32 length = BPF_CORE_READ(dentry, d_name.len) & (NAME_SPACE - 1), at = r->length & (PATH_SPACE - 1);

	r->name = at;
	if (!bpf_probe_read_kernel(r->text + at, length, BPF_CORE_READ(dentry, d_name.name)))
		r->length = at + length;
}

/* Writes the path from the root down. */
static __always_inline void write_path(struct file_record *r, const struct path *path)
{
	r->length = r->name = 0;
	collect_parts(r, path->dentry, mount_of(path->mnt));
	for (__u32 step = 1; step <= STEPS; step++) {
		struct dentry *part = r->parts[(r->steps - step) & (STEPS - 1)];

		if (step > r->steps || r->length >= PATH_SPACE - NAME_SPACE)
			break;
		if (!part)
			continue;
		if (r->length || r->whole)
			r->text[r->length++ & (PATH_SPACE - 1)] = '/';
		append_name(r, part);
	}
	if (!r->length) /* the root, or what has no place in a tree and maybe a name: a pipe, an eventfd */
		append_name(r, path->dentry);
}

/* ---- the row ---- */

static __always_inline void fill_inode(struct file_row *row, const struct inode *inode)
{
	struct super_block *sb = BPF_CORE_READ(inode, i_sb);

	row->type = BPF_CORE_READ(inode, i_mode) >> S_IFMT_SHIFT;
	if (BPF_CORE_READ(sb, s_magic) == ANON_INODE_FS)
		row->type = TYPE_anon; /* from 6.16 on they call themselves regular files */
	bpf_probe_read_kernel_str(row->fstype, sizeof(row->fstype), BPF_CORE_READ(sb, s_type, name));
}

static __always_inline void announce_file(const struct file_key *key, file_id id, const struct inode *inode,
					  const struct path *path)
{
	__u32 zero = 0, length;
	struct file_record *r = bpf_map_lookup_elem(&file_scratch, &zero);

	if (!r)
		return;
	__builtin_memset(&r->row, 0, sizeof(r->row));
	fill_header((struct header *)&r->row, TABLE(file_row), bpf_ktime_get_ns());
	r->row.file = id;
	r->row.inode = key->inode;
	r->row.dev = key->dev;
	r->row.generation = key->generation;
	fill_inode(&r->row, inode);
	write_path(r, path);
	length = r->length & (PATH_SPACE - 1);
	r->row.path.off = sizeof(r->row);
	r->row.path.len = length;
	r->row.name.off = sizeof(r->row) + r->name;
	r->row.name.len = length - r->name;
	output(r, TABLE(file_row), sizeof(r->row) + length);
}

/* ---- the id ---- */

static __always_inline struct file_key key_of(const struct inode *inode)
{
	struct file_key key = {
		.inode = BPF_CORE_READ(inode, i_ino),
		.dev = BPF_CORE_READ(inode, i_sb, s_dev),
		.generation = BPF_CORE_READ(inode, i_generation),
	};

	return key;
}

/*
 * The id of what a path leads to; 0: nothing. A function of its own, with addresses as numbers, so that
 * the verifier reads it once and not for every caller.
 */
__attribute__((noinline)) file_id file_at(__u64 dentry, __u64 mnt, __u64 address)
{
	struct path path = { .mnt = (struct vfsmount *)mnt, .dentry = (struct dentry *)dentry };
	const struct inode *inode = (const struct inode *)address;
	struct file_entry fresh = { .renewal = bpf_ktime_get_ns() >> RENEWAL_SHIFT }, *known;
	struct file_key key = key_of(inode);
	__u32 zero = 0;

	if (!inode)
		return 0;
	fresh.name = BPF_CORE_READ(path.dentry, d_name.hash_len);
	known = bpf_map_lookup_elem(&files, &key);
	if (known && known->name == fresh.name && known->renewal == fresh.renewal)
		return known->id;
	fresh.id = known ? known->id : unique_id(bpf_map_lookup_elem(&last_file_id, &zero));
	bpf_map_update_elem(&files, &key, &fresh, BPF_ANY);
	announce_file(&key, fresh.id, inode, &path);
	return fresh.id;
}

static __always_inline file_id id_of_file(const struct file *file)
{
	return file_at(ADDRESS(file, f_path.dentry), ADDRESS(file, f_path.mnt), ADDRESS(file, f_inode));
}

/* The descriptor walk; null: no such descriptor (any more). */
static __always_inline struct file *file_of_fd(__s32 fd)
{
	struct task_struct *task = running_task();
	struct fdtable *table = BPF_CORE_READ(task, files, fdt);
	struct file *file = 0;

	if (fd < 0 || fd >= BPF_CORE_READ(table, max_fds))
		return 0;
	bpf_probe_read_kernel(&file, sizeof(file), BPF_CORE_READ(table, fd) + fd);
	return file;
}

static __always_inline file_id id_of_fd(__s32 fd)
{
	struct file *file = file_of_fd(fd);

	return file ? id_of_file(file) : 0;
}

/* Where a relative path starts: the directory of a descriptor, or the task's own. */
static __always_inline file_id id_of_base(__s32 fd)
{
	struct task_struct *task = running_task();
	struct dentry *dentry;

	if (fd != AT_FDCWD)
		return id_of_fd(fd);
	dentry = BPF_CORE_READ(task, fs, pwd.dentry);
	return file_at(ADDRESS(task, fs, pwd.dentry), ADDRESS(task, fs, pwd.mnt), ADDRESS(dentry, d_inode));
}

#endif
