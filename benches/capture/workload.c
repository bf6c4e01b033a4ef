// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * Workloads whose events can be counted beforehand: `workload KIND COUNT`.
 *
 * Prints one line of JSON: rounds, the events that a recorder of the kind must see at least, wall
 * time of the loop, and CPU time of the loop in all processes that take part. Start-up and end are
 * not in it. Runs on processor 1 where there is one, so that a recorder on processor 0 costs it
 * only what probes and wakeups do.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <fcntl.h>
#include <time.h>
#include <unistd.h>

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static uint64_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ull + t.tv_nsec;
}

static uint64_t usage(int who)
{
	struct rusage u;

	getrusage(who, &u);
	return (u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1000000000ull +
	       (u.ru_utime.tv_usec + u.ru_stime.tv_usec) * 1000ull;
}

/* Two ends of a TCP connection over loopback. */
static void connect_pair(int ends[2])
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t length = sizeof(address);
	int one = 1, listener = socket(AF_INET, SOCK_STREAM, 0);

	if (bind(listener, (void *)&address, length) || listen(listener, 1) ||
	    getsockname(listener, (void *)&address, &length))
		die("listen");
	ends[0] = socket(AF_INET, SOCK_STREAM, 0);
	if (connect(ends[0], (void *)&address, length))
		die("connect");
	ends[1] = accept(listener, 0, 0);
	for (int i = 0; i < 2; i++)
		setsockopt(ends[i], IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	close(listener);
}

/* As fast as one thread can: each call is a receive that finds nothing. */
static void recv_storm(long count)
{
	int ends[2];
	char byte;

	connect_pair(ends);
	for (long i = 0; i < count; i++)
		recv(ends[0], &byte, 1, MSG_DONTWAIT);
}

static void spin(uint64_t ns)
{
	for (uint64_t end = now() + ns; now() < end;)
		;
}

/* Four such calls for every 24 µs of other work. */
static void recv_paced(long count)
{
	int ends[2];
	char byte;

	connect_pair(ends);
	for (long i = 0; i < count; i++) {
		for (int call = 0; call < 4; call++)
			recv(ends[0], &byte, 1, MSG_DONTWAIT);
		spin(24000);
	}
}

static void call_round(void)
{
	static int zero = -1;
	char byte;

	if (zero < 0)
		zero = open("/dev/zero", O_RDONLY);
	syscall(SYS_getppid);
	if (read(zero, &byte, 1) != 1)
		die("read");
	close(open("/dev/null", O_RDONLY));
}

/* getppid, read, openat, close. */
static void sys_storm(long count)
{
	for (long i = 0; i < count; i++)
		call_round();
}

static void sys_paced(long count)
{
	for (long i = 0; i < count; i++) {
		call_round();
		spin(24000);
	}
}

static void ping(int from, int to, long count, int first)
{
	char bytes[64] = {};

	for (long i = 0; i < count; i++) {
		if (first && write(to, bytes, sizeof(bytes)) < 0)
			die("write");
		for (size_t have = 0; have < sizeof(bytes);) {
			ssize_t n = read(from, bytes, sizeof(bytes) - have);

			if (n <= 0)
				die("read");
			have += n;
		}
		if (!first && write(to, bytes, sizeof(bytes)) < 0)
			die("write");
	}
}

static void ping_pong(const int forth[2], const int back[2], long count)
{
	pid_t child = fork();

	if (!child) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		ping(forth[0], back[1], count, 0);
		_exit(0);
	}
	ping(back[0], forth[1], count, 1);
	waitpid(child, 0, 0);
}

/* 64 bytes there and back: two sends, two receives. */
static void tcp(long count)
{
	int ends[2];

	connect_pair(ends);
	ping_pong((int[]){ ends[1], ends[0] }, (int[]){ ends[0], ends[1] }, count);
}

static void pipes(long count)
{
	int forth[2], back[2];

	if (pipe(forth) || pipe(back))
		die("pipe");
	ping_pong(forth, back, count);
}

/* A fork, an exec, an exit. */
static void spawn(long count)
{
	for (long i = 0; i < count; i++) {
		pid_t child = vfork();

		if (!child) {
			execl("/bin/true", "true", (char *)0);
			_exit(127);
		}
		waitpid(child, 0, 0);
	}
}

/* Open, read, fstat, close (which is not recorded), and a look for what is not there. */
static void files(long count)
{
	char bytes[512];
	struct stat found;

	for (long i = 0; i < count; i++) {
		int file = open("/proc/self/exe", O_RDONLY);

		if (file < 0 || pread(file, bytes, sizeof(bytes), 0) < 0 || fstat(file, &found))
			die("/proc/self/exe");
		close(file);
		if (!stat("/tmp/there-is-no-such-file", &found))
			die("/tmp/there-is-no-such-file");
	}
}

/* Reads that reach the device, one after the other. */
static void blocks(long count)
{
	const char *device = getenv("BENCH_DEVICE");
	int file = device ? open(device, O_RDONLY | O_DIRECT) : -1;
	void *block;

	if (file < 0 || posix_memalign(&block, 4096, 4096))
		die("BENCH_DEVICE");
	for (long i = 0; i < count; i++)
		if (pread(file, block, 4096, i % 4096 * 4096) != 4096)
			die("read");
}

/* Nothing but work: what samples cost, and snapshots. */
static void burn(long milliseconds)
{
	spin(milliseconds * 1000000ull);
}

static void idle(long milliseconds)
{
	usleep(milliseconds * 1000);
}

static const struct kind {
	const char *name;
	void (*run)(long);
	int events; /* per round */
} kinds[] = {
	{ "recv-storm", recv_storm, 1 }, { "recv-paced", recv_paced, 4 }, { "sys-storm", sys_storm, 4 },
	{ "sys-paced", sys_paced, 4 },	 { "tcp", tcp, 4 },		  { "pipe", pipes, 4 },
	{ "spawn", spawn, 3 },		 { "files", files, 4 },		  { "blocks", blocks, 1 },
	{ "burn", burn, 0 },		 { "idle", idle, 0 },
};

int main(int argc, char **argv)
{
	cpu_set_t one;

	CPU_ZERO(&one);
	CPU_SET(1, &one);
	sched_setaffinity(0, sizeof(one), &one); /* a machine with one processor refuses: fine */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (size_t i = 0; argc == 3 && i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		long count = atol(argv[2]);
		uint64_t wall, cpu;

		if (strcmp(kinds[i].name, argv[1]))
			continue;
		cpu = usage(RUSAGE_SELF) + usage(RUSAGE_CHILDREN);
		wall = now();
		kinds[i].run(count);
		wall = now() - wall;
		cpu = usage(RUSAGE_SELF) + usage(RUSAGE_CHILDREN) - cpu;
		printf("{\"rounds\": %ld, \"events\": %ld, \"wall_ns\": %llu, \"cpu_ns\": %llu}\n", count,
		       count * kinds[i].events, (unsigned long long)wall, (unsigned long long)cpu);
		return 0;
	}
	fprintf(stderr, "usage: workload KIND COUNT\n");
	return 2;
}
