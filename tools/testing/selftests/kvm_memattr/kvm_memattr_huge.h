/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A guest whose shared memory is in transparent huge pages, so that KVM can
 * map it in blocks of 2 MiB where the attributes allow that.
 */
#ifndef KVM_MEMATTR_HUGE_H
#define KVM_MEMATTR_HUGE_H

#include "kvm_memattr_guest.h"

#define KMA_BLOCKS		2
#define KMA_BLOCK_PAGES		512
#define KMA_HUGE_PAGES		((u64)KMA_BLOCKS * KMA_BLOCK_PAGES)

/* The page in a block, or in all of the memory. */
static inline u64 kma_page_gpa(u64 page)
{
	return KMA_GPA + page * PAGE_SIZE;
}

/* The guest sees these pages, from @page on, and nothing else. */
static inline void kma_look_at(struct kvm_vcpu *vcpu, u64 page, struct kma_seen want)
{
	struct kma_guest g = { .vm = vcpu->vm, .vcpu = vcpu, .gpa = kma_page_gpa(page) };

	kma_look(&g, want);
}

/* One vCPU for the test's commands; more can run what they like. */
static inline struct kvm_vm *kma_huge_guest(u32 nr_vcpus, struct kvm_vcpu *vcpus[],
					    void *others)
{
	struct userspace_mem_region *region;
	struct kvm_vm *vm;
	u64 page;

	vm = __vm_create_with_vcpus(kma_protected_shape, nr_vcpus, 0, kma_guest_code, vcpus);
	for (u32 i = 1; i < nr_vcpus; i++)
		vcpu_arch_set_entry_point(vcpus[i], others);

	vm_mem_add(vm, VM_MEM_SRC_ANONYMOUS_THP, KMA_GPA, KMA_SLOT, KMA_HUGE_PAGES,
		   KVM_MEM_GUEST_MEMFD, -1, 0);
	region = memslot2region(vm, KMA_SLOT);
	virt_map(vm, KMA_GPA, KMA_GPA, KMA_HUGE_PAGES);
	kma_warm_up(vcpus[0]);

	for (page = 0; page < KMA_HUGE_PAGES; page++)
		*(u64 *)(region->host_mem + page * PAGE_SIZE) =
			kma_word(KMA_KIND_SHARED, kma_page_gpa(page));

	kma_set(vm, KMA_GPA, KMA_HUGE_PAGES * PAGE_SIZE, KMA_PRIVATE);
	for (page = 0; page < KMA_HUGE_PAGES; page += KMA_PAGES)
		kma_write_by(vcpus[0], kma_page_gpa(page), KMA_ALL, KMA_KIND_PRIVATE);
	kma_set(vm, KMA_GPA, KMA_HUGE_PAGES * PAGE_SIZE, 0);
	return vm;
}

/* For a fixture's setup. */
#define KMA_REQUIRE_HUGE_PAGES()						\
do {										\
	if (!thp_configured() || get_trans_hugepagesz() != SZ_2M)		\
		SKIP(return, "no transparent huge pages of 2 MiB here");	\
} while (0)

#endif /* KVM_MEMATTR_HUGE_H */
