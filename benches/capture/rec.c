// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * `rec FILE EVENTS COMMAND…`: the smallest recorder of the same events, raw into a file.
 *
 * EVENTS are programs of rec.bpf.c, separated by commas (of pieces.bpf.c, under the name `pieces`). Rings of 8 MiB in all, one thread that
 * looks every 2 ms and writes what it finds as it is. Prints one line of JSON at the end.
 */
#define _GNU_SOURCE
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/types.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define TOTAL (8u << 20)
#define BLOCK (1u << 20)

static char block[BLOCK];
static size_t used;
static unsigned long long records, bytes;
static int out;

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static void flush(void)
{
	if (used && write(out, block, used) != (ssize_t)used)
		die("write");
	bytes += used;
	used = 0;
}

static int take(void *unused, void *record, size_t size)
{
	(void)unused;
	if (used + size > BLOCK)
		flush();
	memcpy(block + used, record, size);
	used += size;
	records++;
	return 0;
}

static int chosen(const char *events, const char *name)
{
	size_t length = strlen(name);

	for (const char *at = events; at; at = strchr(at, ',') ? strchr(at, ',') + 1 : 0)
		if (!strncmp(at, name, length) && (at[length] == ',' || !at[length]))
			return 1;
	return !strcmp(name, "follow");
}

/* The object's only map of a kind: libbpf names it after the object. */
static struct bpf_map *section(struct bpf_object *object, const char *name)
{
	struct bpf_map *map;

	bpf_object__for_each_map(map, object)
		if (strstr(bpf_map__name(map), name))
			return map;
	errno = ENOENT;
	die(name);
	return 0;
}

static struct bpf_object *load(const char *file, const char *events, unsigned rings)
{
	struct bpf_object *object = bpf_object__open_file(file, 0);
	struct bpf_program *program;
	size_t size;

	if (!object)
		die(file);
	bpf_object__for_each_program(program, object)
		bpf_program__set_autoload(program, chosen(events, bpf_program__name(program) + strlen("on_")));
	/* The only constant. */
	*(unsigned *)bpf_map__initial_value(section(object, ".rodata"), &size) = rings - 1;
	if (bpf_object__load(object))
		die(file);
	return object;
}

static struct ring_buffer *add_rings(struct bpf_object *object, unsigned rings)
{
	int table = bpf_object__find_map_fd_by_name(object, "rings");
	struct ring_buffer *all = 0;

	for (unsigned i = 0; i < rings; i++) {
		int ring = bpf_map_create(BPF_MAP_TYPE_RINGBUF, "ring", 0, 0, TOTAL / rings, 0);

		if (ring < 0 || bpf_map_update_elem(table, &i, &ring, BPF_ANY))
			die("make a ring");
		if (!all)
			all = ring_buffer__new(ring, take, 0, 0);
		else if (ring_buffer__add(all, ring, take, 0))
			die("add a ring");
	}
	return all;
}

static pid_t start(char **command, int *gate)
{
	int ends[2];
	pid_t child;
	char byte;

	if (pipe2(ends, O_CLOEXEC))
		die("pipe");
	child = fork();
	if (!child) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(ends[1]);
		if (read(ends[0], &byte, 1) == 1)
			execvp(command[0], command);
		_exit(127);
	}
	close(ends[0]);
	*gate = ends[1];
	return child;
}

int main(int argc, char **argv)
{
	unsigned rings = 1, cpus = libbpf_num_possible_cpus();
	struct timespec pause = { .tv_nsec = 2000000 };
	struct bpf_object *object;
	struct bpf_program *program;
	struct ring_buffer *all;
	unsigned char one = 1;
	unsigned long long lost = 0;
	unsigned zero = 0;
	char object_file[4096];
	int status, gate;
	pid_t child;

	if (argc < 4)
		return 2;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	while (rings < cpus && rings < 64)
		rings *= 2;
	snprintf(object_file, sizeof(object_file), "%s.bpf.o", argv[0]);
	out = open(argv[1], O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600);
	if (out < 0)
		die(argv[1]);
	child = start(argv + 3, &gate);
	object = load(object_file, argv[2], rings);
	all = add_rings(object, rings);
	if (bpf_map_update_elem(bpf_object__find_map_fd_by_name(object, "wanted"), &child, &one, BPF_ANY))
		die("choose the command");
	bpf_object__for_each_program(program, object)
		if (bpf_program__autoload(program) && !bpf_program__attach(program))
			die(bpf_program__name(program));
	if (write(gate, "x", 1) != 1)
		die("start the command");
	while (waitpid(child, &status, WNOHANG) == 0) {
		ring_buffer__consume(all);
		nanosleep(&pause, 0);
	}
	ring_buffer__consume(all);
	flush();
	bpf_map_lookup_elem(bpf_map__fd(section(object, ".bss")), &zero, &lost); /* the only variable */
	fprintf(stderr, "{\"recorded\": %llu, \"lost\": %llu, \"bytes\": %llu}\n", records, lost, bytes);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 125;
}
