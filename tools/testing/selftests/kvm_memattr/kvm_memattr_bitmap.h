/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A model of which pages are private that knows nothing of blocks and runs: a
 * bit for each page of a stretch, in words of 64.
 */
#ifndef KVM_MEMATTR_BITMAP_H
#define KVM_MEMATTR_BITMAP_H

#include "kvm_memattr_test.h"

static inline u64 *kma_bitmap_new(u64 bits)
{
	u64 *map = calloc((bits + 63) / 64, sizeof(*map));

	TEST_ASSERT(map, "no memory for %lu bits", bits);
	return map;
}

static inline bool kma_bit(const u64 *map, u64 at)
{
	return map[at / 64] >> at % 64 & 1;
}

static inline void kma_bitmap_set(u64 *map, u64 first, u64 end, bool value)
{
	for (u64 at = first; at < end; ) {
		u64 to = min(end, (at | 63) + 1);
		u64 bits = GENMASK_ULL((to - 1) % 64, at % 64);

		if (value)
			map[at / 64] |= bits;
		else
			map[at / 64] &= ~bits;
		at = to;
	}
}

/* The first bit at or after @from that has the value, or @end. */
static inline u64 kma_bitmap_next(const u64 *map, u64 from, u64 end, bool value)
{
	for (u64 at = from; at < end; at = (at | 63) + 1) {
		u64 word = (value ? map[at / 64] : ~map[at / 64]) & GENMASK_ULL(63, at % 64);

		if (word)
			return min((at & ~63ull) + __builtin_ctzll(word), end);
	}
	return end;
}

#endif /* KVM_MEMATTR_BITMAP_H */
