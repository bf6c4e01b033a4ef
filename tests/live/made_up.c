// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0
/* A table that no probe fills: every width and sign, fixed and trailing text, an address, a null. */
#include "vmlinux.h"
#include "event.h"

struct made_up {
	EVENT;
	__u8 small;
	__s8 small_signed;
	__u16 medium;
	__s16 medium_signed;
	__u16 unused __skip;
	__u32 large;
	__s32 large_signed __unit("bytes");
	__u32 unused2 __skip;
	__u64 huge;
	__s64 huge_signed;
	ns_t sometimes __null(0);
	char name[12];
	str_t text;
	ip6_t address;
} __event __doc("made up");

/* Without a user the compiler would leave the struct out of the BTF. */
struct made_up *user;
