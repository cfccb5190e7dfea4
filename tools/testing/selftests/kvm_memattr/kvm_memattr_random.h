/* SPDX-License-Identifier: GPL-2.0 */
/* Random numbers that can be had again: KMA_SEED in the environment is the seed. */
#ifndef KVM_MEMATTR_RANDOM_H
#define KVM_MEMATTR_RANDOM_H

#include <stdlib.h>
#include <sys/random.h>

#include "kvm_memattr_test.h"

static u64 kma_seed;
static __thread u64 kma_random_state;

static inline void kma_random_init(void)
{
	const char *text = getenv("KMA_SEED");

	if (text)
		kma_seed = strtoull(text, NULL, 0);
	else
		TEST_ASSERT(getrandom(&kma_seed, sizeof(kma_seed), 0) == sizeof(kma_seed),
			    "no random seed: %s", strerror(errno));
	kma_random_state = kma_seed;
	printf("# seed: KMA_SEED=%#lx\n", kma_seed);
}

/* For a thread besides the one that has called kma_random_init(). */
static inline void kma_random_init_thread(u64 nr)
{
	kma_random_state = kma_seed + nr;
}

/* splitmix64: any seed will do, 0 included. */
static inline u64 kma_random(void)
{
	u64 z = kma_random_state += 0x9e3779b97f4a7c15ull;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ z >> 27) * 0x94d049bb133111ebull;
	return z ^ z >> 31;
}

static inline u64 kma_random_below(u64 limit)
{
	return kma_random() % limit;
}

/* From 1 to @limit, each power of two as likely as the next. */
static inline u64 kma_random_log(u64 limit)
{
	u64 size = 1ull << kma_random_below(64 - __builtin_clzll(limit));

	return min(size + kma_random_below(size), limit);
}

/*
 * Pages [first, end) of @all, at most @limit of them. Where blocks begin and end
 * is more likely than elsewhere; @origin is where one of each size begins.
 */
static inline void kma_random_range(u64 all, u64 limit, u64 origin, u64 *first, u64 *end)
{
	static const u64 blocks[] = { 1, 2, 64, 512, 4096, 262144 };
	u64 block = blocks[kma_random_below(ARRAY_SIZE(blocks))];
	u64 size = kma_random_log(limit);
	u64 start = kma_random_below(all);
	u64 near = start / block * block + origin;

	switch (kma_random_below(4)) {
	case 0:
		/* Beside a boundary. */
		start = near + kma_random_below(5) - 2;
		break;
	case 1:
		/* On boundaries, at both ends. */
		if (block > limit)
			break;
		start = near;
		size = (size + block - 1) / block * block;
		break;
	case 2:
		/* Its end beside a boundary. */
		start = near + kma_random_below(3) - 1 - size;
		break;
	}
	/* Less than 0 is a lot, too. */
	if (start >= all)
		start = kma_random_below(all);

	*first = start;
	*end = min(start + size, all);
}

/* How long a run is: what KMA_STEPS says, else @steps, fewer where kma_rounds() are fewer. */
static inline u64 kma_steps(u64 steps, u64 debug_share)
{
	const char *text = getenv("KMA_STEPS");

	return text ? strtoull(text, NULL, 0) : kma_rounds(steps, debug_share);
}

#endif /* KVM_MEMATTR_RANDOM_H */
