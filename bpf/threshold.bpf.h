/* SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0 */
/*
 * --min-latency: of calls that are recorded one by one, only those that took long. A family that includes this and asks
 * too_short() before it reserves can be told a threshold.
 *
 * Of a call that nobody saw begin it is not known whether it was short: it is recorded.
 */
#ifndef TAPEDECK_THRESHOLD_H
#define TAPEDECK_THRESHOLD_H

#include "common.bpf.h"

/* Shorter calls are filtered, ns; 0: every one is recorded. */
const volatile __u64 min_latency = 0;

static __always_inline bool too_short(__u64 began, __u64 now)
{
	return min_latency && began && now - began < min_latency;
}

#endif
