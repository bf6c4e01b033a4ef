/*
 * Burns CPU time in functions that are known by name, and says how much in each: `burn SECONDS`.
 *
 * main → outer → inner → hot or cold, three times as often hot. The time is that of the thread's own CPU clock, read
 * around each call, so it is no sample.
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <sys/resource.h>

static volatile unsigned long sink;

static unsigned long cpu_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return t.tv_sec * 1000000000ul + t.tv_nsec;
}

/* Compilers leave the frame out of functions that call nothing, whatever they are told. */
__attribute__((noinline)) void burn_nothing(void)
{
	__asm__ volatile("");
}

__attribute__((noinline)) void burn_hot(void)
{
	burn_nothing();
	for (int i = 0; i < 1000000; i++)
		sink = sink * 3 + 1;
}

__attribute__((noinline)) void burn_cold(void)
{
	burn_nothing();
	for (int i = 0; i < 1000000; i++)
		sink = sink * 5 + 1;
}

__attribute__((noinline)) void burn_inner(int hot)
{
	if (hot)
		burn_hot();
	else
		burn_cold();
	sink++; /* so that the calls above are calls and not jumps */
}

__attribute__((noinline)) void burn_outer(unsigned long *hot, unsigned long *cold)
{
	for (int i = 0; i < 4; i++) {
		unsigned long before = cpu_ns();

		burn_inner(i < 3);
		*(i < 3 ? hot : cold) += cpu_ns() - before;
	}
}

int main(int argc, char **argv)
{
	unsigned long end = atof(argc > 1 ? argv[1] : "1") * 1e9, hot = 0, cold = 0;
	struct rusage use;

	while (cpu_ns() < end)
		burn_outer(&hot, &cold);
	getrusage(RUSAGE_SELF, &use);
	printf("{\"hot_ns\": %lu, \"cold_ns\": %lu, \"cpu_ns\": %lu}\n", hot, cold,
	       (use.ru_utime.tv_sec + use.ru_stime.tv_sec) * 1000000000ul +
		       (use.ru_utime.tv_usec + use.ru_stime.tv_usec) * 1000ul);
	return 0;
}
