/* SPDX-License-Identifier: GPL-2.0 */
/* Random numbers that can be had again: KMA_SEED in the environment is the seed. */
#ifndef KVM_MEMATTR_RANDOM_H
#define KVM_MEMATTR_RANDOM_H

#include <stdlib.h>
#include <sys/random.h>

#include "kvm_memattr_test.h"

static u64 kma_seed, kma_random_state;

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

#endif /* KVM_MEMATTR_RANDOM_H */
