/*
 * Functions to be probed, called as often and with what the test expects: plain, recursive, slow, with text, and
 * left by longjmp; and a static probe, its note written by hand as <sys/sdt.h> does. With a second
 * argument only system calls that nobody else makes (any other word, which becomes its name), allocations of which every
 * other one is kept ("leak"), calls that last until a byte comes ("wait"), or pages that are touched
 * for the first time ("touch"): then it says where they are, and what the kernel counted meanwhile.
 */
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define NOINLINE __attribute__((noinline))

struct box {
	int width;
	long weight;
};

static jmp_buf out;
volatile long sink;

NOINLINE long add(long a, int b, const struct box *box)
{
	sink += a + b;
	return a + b + box->width;
}

NOINLINE long factorial(long n)
{
	return n < 2 ? 1 : n * factorial(n - 1);
}

NOINLINE void nap(long ms)
{
	struct timespec time = { .tv_nsec = ms * 1000000 };

	nanosleep(&time, 0);
}

NOINLINE const char *greet(const char *whom)
{
	static char text[64];

	snprintf(text, sizeof(text), "hello %s", whom);
	return text;
}

NOINLINE void leave(int how)
{
	sink++;
	if (how)
		longjmp(out, 1);
}

/* Comes back from the third call inside, which leaves two by longjmp. */
NOINLINE long dive(long n)
{
	if (n == 0)
		longjmp(out, 1);
	if (n != 2 || !setjmp(out))
		dive(n - 1);
	return sink++ ? n : 0;
}

NOINLINE void *take(size_t size)
{
	void *block = malloc(size);

	sink++; /* not a tail call, which would leave no frame */
	return block;
}

NOINLINE void give(void *block)
{
	free(block);
	sink++;
}

NOINLINE long await(long n)
{
	char byte;

	printf("%ld\n", n);
	fflush(stdout);
	if (read(0, &byte, 1) == 1)
		sink++;
	return sink;
}

/* Keeps every other block of 1000 bytes, and beside it what calloc got and realloc made larger. */
static void leak(int count)
{
	for (int i = 0; i < count; i++) {
		void *block = take(1000), *more = calloc(2, 40);

		more = realloc(more, 300);
		if (i % 2) {
			give(block);
			free(more);
		}
		sink += (long)block ^ (long)more;
	}
}

static struct rusage used(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return usage;
}

static long now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1000000000L + time.tv_nsec;
}

/* Prints address, begin and end of the touching, minor faults, and the CPU time of the whole process, in us. */
static void touch(int pages)
{
	long size = pages * 4096L, from, to;
	volatile char *at = mmap(0, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct rusage before, after;

	madvise((void *)at, size, MADV_NOHUGEPAGE);
	used();
	now();
	from = now();
	before = used();
	for (long i = 0; i < size; i += 4096)
		at[i] = 1;
	after = used();
	to = now();
	for (long i = 0; i < 300000000; i++)
		sink++;
	printf("%ld %ld %ld %ld ", (long)at, from, to, after.ru_minflt - before.ru_minflt);
	after = used();
	printf("%ld\n", (after.ru_utime.tv_sec + after.ru_stime.tv_sec) * 1000000 + after.ru_utime.tv_usec +
				after.ru_stime.tv_usec);
}

static void tick(int number, const char *text)
{
#if defined(__x86_64__)
	__asm__ volatile("990: nop\n"
			 ".pushsection .note.stapsdt,\"\",\"note\"\n"
			 ".balign 4\n"
			 ".4byte 992f-991f, 994f-993f, 3\n"
			 "991: .asciz \"stapsdt\"\n"
			 "992: .balign 4\n"
			 "993: .8byte 990b, _.stapsdt.base, 0\n"
			 ".asciz \"tapedeck\"\n"
			 ".asciz \"tick\"\n"
			 ".asciz \"-4@%0 8@%1\"\n"
			 "994: .balign 4\n"
			 ".popsection\n"
			 ".ifndef _.stapsdt.base\n"
			 ".pushsection .stapsdt.base,\"aG\",\"progbits\",.stapsdt.base,comdat\n"
			 ".weak _.stapsdt.base\n"
			 ".hidden _.stapsdt.base\n"
			 "_.stapsdt.base: .space 1\n"
			 ".size _.stapsdt.base, 1\n"
			 ".popsection\n"
			 ".endif\n" ::"r"(number),
			 "r"(text));
#endif
}

int main(int argc, char **argv)
{
	int count = argc > 1 ? atoi(argv[1]) : 100;
	if (argc > 2 && !strcmp(argv[2], "leak")) {
		leak(count);
		return 0;
	}
	if (argc > 2 && !strcmp(argv[2], "wait")) {
		for (long i = 0; i < count; i++)
			await(i);
		return 0;
	}
	if (argc > 2 && !strcmp(argv[2], "touch")) {
		touch(count);
		return 0;
	}
	if (argc > 2) {
		/* Each test has a name of its own: an observer sees those of others too. */
		prctl(PR_SET_NAME, argv[2]);
		while (count--)
			syscall(SYS_getppid);
		return 0;
	}
	struct box box = { .width = 7, .weight = 70 };

	for (int i = 0; i < count; i++) {
		add(i, -1, &box);
		tick(i - 5, i % 2 ? "odd" : "even");
	}
	factorial(10);
	nap(5);
	nap(30);
	greet("world");
	for (int i = 0; i < 3; i++)
		if (!setjmp(out))
			leave(1);
	leave(0);
	dive(4);
	return 0;
}
