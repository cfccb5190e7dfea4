/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What attributes take of memory. Both implementations keep them in nodes of
 * xarrays, which come from a slab cache of their own.
 */
#ifndef KVM_MEMATTR_BENCH_SLAB_H
#define KVM_MEMATTR_BENCH_SLAB_H

#include "bench.h"

#define BENCH_CACHE	"radix_tree_node"

static inline u64 bench_slab_bytes(void)
{
	u64 active = 0, size = 0, all;
	char line[256], name[64];
	FILE *file;

	/* Objects that a CPU keeps for itself count as used until it gives them back. */
	bench_drain();
	bench_write("/sys/kernel/slab/" BENCH_CACHE "/shrink", "1");

	file = fopen("/proc/slabinfo", "r");
	TEST_ASSERT(file, "cannot open /proc/slabinfo: %s", strerror(errno));
	while (fgets(line, sizeof(line), file)) {
		if (sscanf(line, "%63s %lu %lu %lu", name, &active, &all, &size) == 4 &&
		    !strcmp(name, BENCH_CACHE))
			break;
		size = 0;
	}
	TEST_ASSERT(size, "no " BENCH_CACHE " in /proc/slabinfo");
	fclose(file);
	return active * size;
}

#endif /* KVM_MEMATTR_BENCH_SLAB_H */
