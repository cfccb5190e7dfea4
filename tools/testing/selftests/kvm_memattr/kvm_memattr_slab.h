/* SPDX-License-Identifier: GPL-2.0 */
/* How many objects of a slab there are. */
#ifndef KVM_MEMATTR_SLAB_H
#define KVM_MEMATTR_SLAB_H

#include "kvm_memattr_test.h"

/* KASAN and the CPUs hold on to what was freed until they're asked to let go. */
static inline u64 kma_slab_objects(const char *slab)
{
	char line[256], name[64], path[128];
	unsigned long active;
	FILE *file;

	snprintf(path, sizeof(path), "/sys/kernel/slab/%s/shrink", slab);
	file = fopen(path, "w");
	TEST_ASSERT(file, "cannot open %s: %s", path, strerror(errno));
	fprintf(file, "1\n");
	fclose(file);

	file = fopen("/proc/slabinfo", "r");
	TEST_ASSERT(file, "cannot open /proc/slabinfo: %s", strerror(errno));
	while (fgets(line, sizeof(line), file)) {
		if (sscanf(line, "%63s %lu", name, &active) == 2 && !strcmp(name, slab)) {
			fclose(file);
			return active;
		}
	}
	TEST_FAIL("/proc/slabinfo has no line '%s'", slab);
}

#endif /* KVM_MEMATTR_SLAB_H */
