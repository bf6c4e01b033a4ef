/* SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0 */
/*
 * What the governor leaves out when a recording costs more than it may: first stacks, where a family with this header
 * has WITHOUT_STACKS; then whole flows, tasks or requests, chosen by a hash of their id, so that what is recorded of
 * the others is complete; last all of them, which then are only counted. A family that includes this and asks
 * left_out() before it reserves can be governed.
 */
#ifndef TAPEDECK_SAMPLE_H
#define TAPEDECK_SAMPLE_H

#include "common.bpf.h"

#define LEAVE_ALL 0xffffffff

/* Set while recording. 0: all ids are recorded, 2^n - 1: one of 2^n, LEAVE_ALL: none. */
__u64 sample_mask __live = 0;

static __always_inline bool left_out(__u32 id)
{
	__u32 mask = (__u32)sample_mask;

	return mask && (mask == LEAVE_ALL || (id * 0x9e3779b1u >> 16) & mask);
}

#define LEFT_OUT(name) count_left_out(TABLE(name))

#endif
