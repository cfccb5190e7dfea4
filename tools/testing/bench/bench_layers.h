/* SPDX-License-Identifier: GPL-2.0 */
/* The module's calls that set a layer, or many ranges, and that read back. */
#ifndef KVM_MEMATTR_BENCH_LAYERS_H
#define KVM_MEMATTR_BENCH_LAYERS_H

#include "bench.h"

#define BENCH_RUNS	4096

static inline struct kvm_memory_attributes_entry bench_entry(u64 gpa, u64 size, u32 layer,
							     u64 attributes, u64 mask)
{
	return (struct kvm_memory_attributes_entry) {
		.address = gpa,
		.size = size,
		.attributes = attributes,
		.mask = mask,
		.layer = layer,
	};
}

static inline void bench_set_batch(struct kvm_vm *vm,
				   const struct kvm_memory_attributes_entry *entries, u32 nr)
{
	struct kvm_memory_attributes_batch batch = {
		.entries = (u64)entries,
		.nr = nr,
	};
	int ret = __vm_ioctl(vm, KVM_SET_MEMORY_ATTRIBUTES_BATCH, &batch);

	TEST_ASSERT_VM_VCPU_IOCTL(!ret, KVM_SET_MEMORY_ATTRIBUTES_BATCH, ret, vm);
}

/* The same on either side: mainline takes a call for each entry. */
static inline void bench_set_entries(struct kvm_vm *vm, enum bench_side side,
				     const struct kvm_memory_attributes_entry *entries, u32 nr)
{
	if (side == BENCH_MODULE) {
		bench_set_batch(vm, entries, nr);
		return;
	}
	for (u32 i = 0; i < nr; i++)
		kma_set(vm, entries[i].address, entries[i].size, entries[i].attributes);
}

static inline void bench_set_layer(struct kvm_vm *vm, u64 gpa, u64 size, u32 layer,
				   u64 attributes)
{
	struct kvm_memory_attributes2 attr = {
		.address = gpa,
		.size = size,
		.attributes = attributes,
		.layer = layer,
	};
	int ret = __vm_ioctl(vm, KVM_SET_MEMORY_ATTRIBUTES2, &attr);

	TEST_ASSERT_VM_VCPU_IOCTL(!ret, KVM_SET_MEMORY_ATTRIBUTES2, ret, vm);
}

static inline void bench_clear_layer(struct kvm_vm *vm, u32 layer)
{
	struct kvm_memory_attributes2 attr = {
		.flags = KVM_SET_MEMORY_ATTRIBUTES2_WHOLE_LAYER,
		.layer = layer,
	};
	int ret = __vm_ioctl(vm, KVM_SET_MEMORY_ATTRIBUTES2, &attr);

	TEST_ASSERT_VM_VCPU_IOCTL(!ret, KVM_SET_MEMORY_ATTRIBUTES2, ret, vm);
}

/*
 * Up to BENCH_RUNS runs of the pages [*gpa, end) of a layer, or of all with ~0.
 * Moves on to what's left.
 */
static inline u32 bench_get_runs(struct kvm_vm *vm, u64 *gpa, u64 end, u32 layer,
				 struct kvm_memory_attributes_run *runs)
{
	struct kvm_memory_attributes_get get = {
		.start = *gpa,
		.size = end - *gpa,
		.runs = (u64)runs,
		.nr = BENCH_RUNS,
		.layer = layer,
	};
	int ret = __vm_ioctl(vm, KVM_GET_MEMORY_ATTRIBUTES, &get);

	TEST_ASSERT_VM_VCPU_IOCTL(!ret, KVM_GET_MEMORY_ATTRIBUTES, ret, vm);
	TEST_ASSERT(get.nr && get.next > *gpa, "no run at 0x%lx", *gpa);
	*gpa = get.next;
	return get.nr;
}

/* What each page from @gpa on has. */
static inline void bench_get_pages(struct kvm_vm *vm, u64 gpa, u64 nr_pages, u32 layer, u8 *pages)
{
	static struct kvm_memory_attributes_run runs[BENCH_RUNS];
	u64 at = gpa, end = gpa + nr_pages * PAGE_SIZE;

	while (at < end) {
		u32 nr = bench_get_runs(vm, &at, end, layer, runs);

		for (u32 i = 0; i < nr; i++)
			memset(&pages[(runs[i].start - gpa) / PAGE_SIZE], runs[i].attributes,
			       runs[i].size / PAGE_SIZE);
	}
}

/* How many blocks of 2 MiB KVM can't map as such, as attributes differ in them. */
static inline u64 bench_mixed(struct kvm_vm *vm, u64 gpa, u64 size)
{
	char text[128];
	FILE *file;
	u64 nr;

	snprintf(text, sizeof(text), "%d %lu %lu", vm->fd, gpa >> PAGE_SHIFT,
		 size >> PAGE_SHIFT);
	bench_write(BENCH_DIR "/mixed", text);
	file = fopen(BENCH_DIR "/mixed", "r");
	TEST_ASSERT(file, "cannot open " BENCH_DIR "/mixed");
	TEST_ASSERT(fscanf(file, "%lu", &nr) == 1, "no number in " BENCH_DIR "/mixed");
	fclose(file);
	return nr;
}

#endif /* KVM_MEMATTR_BENCH_LAYERS_H */
