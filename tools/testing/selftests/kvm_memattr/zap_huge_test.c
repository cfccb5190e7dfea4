// SPDX-License-Identifier: GPL-2.0
/*
 * A block of 2 MiB is mapped as one page where all of it is shared, and only
 * there: not with one private page in it, and again once none is left.
 */
#include "kvm_memattr_huge.h"

FIXTURE(huge) {
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
};

FIXTURE_SETUP(huge)
{
	KMA_REQUIRE_PROTECTED_VMS();
	KMA_REQUIRE_HUGE_PAGES();
	self->vm = kma_huge_guest(1, &self->vcpu, NULL);
}

FIXTURE_TEARDOWN(huge)
{
	kvm_vm_free(self->vm);
}

/* Blocks that KVM has mapped as one page after the guest has looked there. */
#define ASSERT_BLOCKS(_nr)	TEST_ASSERT_EQ(vm_get_stat(self->vm, pages_2m), _nr)

#define SET(_page, _nr, _attributes)						\
	kma_set(self->vm, kma_page_gpa(_page), (_nr) * PAGE_SIZE, _attributes)

/* Every page of the memory, each of which is private where said, else shared. */
static void look_at_all(struct kvm_vcpu *vcpu, u64 first_private, u64 nr_private)
{
	for (u64 page = 0; page < KMA_HUGE_PAGES; page += KMA_PAGES) {
		u64 private = 0;

		for (u64 i = 0; i < KMA_PAGES; i++)
			if (page + i - first_private < nr_private)
				private |= 1ull << i;
		kma_look_at(vcpu, page, KMA_SEEN_PRIVATE(private));
	}
}

TEST_F(huge, shared_blocks_are_mapped_as_one_page)
{
	look_at_all(self->vcpu, 0, 0);
	ASSERT_BLOCKS(2);
}

TEST_F(huge, one_private_page_forbids_its_block_and_no_other)
{
	look_at_all(self->vcpu, 0, 0);
	SET(100, 1, KMA_PRIVATE);
	ASSERT_BLOCKS(1);
	look_at_all(self->vcpu, 100, 1);
	ASSERT_BLOCKS(1);
}

TEST_F(huge, private_page_set_before_the_first_access_forbids_its_block)
{
	SET(100, 1, KMA_PRIVATE);
	look_at_all(self->vcpu, 100, 1);
	ASSERT_BLOCKS(1);
}

TEST_F(huge, first_page_of_a_block_belongs_to_that_block)
{
	SET(KMA_BLOCK_PAGES, 1, KMA_PRIVATE);
	kma_look_at(self->vcpu, 0, KMA_SEEN_PRIVATE(KMA_NONE));
	ASSERT_BLOCKS(1);
	look_at_all(self->vcpu, KMA_BLOCK_PAGES, 1);
	ASSERT_BLOCKS(1);
}

TEST_F(huge, last_page_of_a_block_belongs_to_that_block)
{
	SET(KMA_BLOCK_PAGES - 1, 1, KMA_PRIVATE);
	kma_look_at(self->vcpu, KMA_BLOCK_PAGES, KMA_SEEN_PRIVATE(KMA_NONE));
	ASSERT_BLOCKS(1);
	look_at_all(self->vcpu, KMA_BLOCK_PAGES - 1, 1);
	ASSERT_BLOCKS(1);
}

TEST_F(huge, range_across_two_blocks_forbids_both)
{
	look_at_all(self->vcpu, 0, 0);
	SET(KMA_BLOCK_PAGES - 1, 2, KMA_PRIVATE);
	ASSERT_BLOCKS(0);
	look_at_all(self->vcpu, KMA_BLOCK_PAGES - 1, 2);
	ASSERT_BLOCKS(0);
}

TEST_F(huge, private_block_leaves_the_next_one_whole)
{
	look_at_all(self->vcpu, 0, 0);
	SET(0, KMA_BLOCK_PAGES, KMA_PRIVATE);
	ASSERT_BLOCKS(1);
	look_at_all(self->vcpu, 0, KMA_BLOCK_PAGES);
	ASSERT_BLOCKS(1);
}

TEST_F(huge, block_comes_back_once_all_of_it_is_shared)
{
	SET(100, 1, KMA_PRIVATE);
	look_at_all(self->vcpu, 100, 1);
	ASSERT_BLOCKS(1);

	SET(100, 1, 0);
	look_at_all(self->vcpu, 0, 0);
	ASSERT_BLOCKS(2);
}

/* Two private pages of the first block become shared again, one after the other. */
static void share_in_turn(struct kvm_vm *vm, struct kvm_vcpu *vcpu, u64 first, u64 last)
{
	kma_set(vm, kma_page_gpa(first), PAGE_SIZE, KMA_PRIVATE);
	kma_set(vm, kma_page_gpa(last), PAGE_SIZE, KMA_PRIVATE);

	kma_set(vm, kma_page_gpa(first), PAGE_SIZE, 0);
	look_at_all(vcpu, last, 1);
	TEST_ASSERT_EQ(vm_get_stat(vm, pages_2m), 1);

	kma_set(vm, kma_page_gpa(last), PAGE_SIZE, 0);
	look_at_all(vcpu, 0, 0);
	TEST_ASSERT_EQ(vm_get_stat(vm, pages_2m), 2);
}

TEST_F(huge, block_does_not_come_back_while_a_page_of_it_is_private)
{
	share_in_turn(self->vm, self->vcpu, 100, 101);
}

TEST_F(huge, block_does_not_come_back_while_a_page_far_from_the_change_is_private)
{
	share_in_turn(self->vm, self->vcpu, 10, 400);
	share_in_turn(self->vm, self->vcpu, 400, 10);
}

TEST_F(huge, range_across_two_blocks_gives_both_back)
{
	SET(KMA_BLOCK_PAGES - 1, 2, KMA_PRIVATE);
	look_at_all(self->vcpu, KMA_BLOCK_PAGES - 1, 2);
	SET(KMA_BLOCK_PAGES - 1, 2, 0);
	look_at_all(self->vcpu, 0, 0);
	ASSERT_BLOCKS(2);
}

TEST_F(huge, slot_over_attributes_set_before_it_maps_blocks_accordingly)
{
	vm_mem_region_delete(self->vm, KMA_SLOT);
	SET(KMA_BLOCK_PAGES + 7, 1, KMA_PRIVATE);
	vm_mem_add(self->vm, VM_MEM_SRC_ANONYMOUS_THP, KMA_GPA, KMA_SLOT, KMA_HUGE_PAGES,
		   KVM_MEM_GUEST_MEMFD, -1, 0);
	memset(memslot2region(self->vm, KMA_SLOT)->host_mem, 0, KMA_HUGE_PAGES * PAGE_SIZE);

	for (u64 page = 0; page < KMA_HUGE_PAGES; page += KMA_PAGES)
		kma_look_at(self->vcpu, page, KMA_SEEN(.zero = KMA_ALL));
	ASSERT_BLOCKS(1);
}

/* The kernel's own account of its warnings: a WARN_ONCE() shows once a boot. */
static bool kernel_has_warned(void)
{
	unsigned long tainted;
	FILE *file = fopen("/proc/sys/kernel/tainted", "r");

	TEST_ASSERT(file, "cannot open /proc/sys/kernel/tainted: %s", strerror(errno));
	TEST_ASSERT(fscanf(file, "%lu", &tainted) == 1, "no number in it");
	fclose(file);
	return tainted & BIT(9);
}

/*
 * A slot without private memory can have its dirty pages logged. When that
 * ends, KVM asks of each block that is mapped page by page whether it can be
 * one page, private blocks included: their page table outlives its pages.
 */
TEST_F(huge, end_of_dirty_logging_recovers_shared_blocks_and_no_private_one)
{
	bool warned = kernel_has_warned();
	struct kvm_vcpu *vcpu = self->vcpu;
	u64 *mem;

	vm_mem_region_delete(self->vm, KMA_SLOT);
	vm_mem_add(self->vm, VM_MEM_SRC_ANONYMOUS_THP, KMA_GPA, KMA_SLOT, KMA_HUGE_PAGES,
		   KVM_MEM_LOG_DIRTY_PAGES, -1, 0);
	mem = memslot2region(self->vm, KMA_SLOT)->host_mem;
	memset(mem, 0, KMA_HUGE_PAGES * PAGE_SIZE);
	for (u64 page = 0; page < KMA_HUGE_PAGES; page += KMA_PAGES)
		kma_look_at(vcpu, page, KMA_SEEN(.zero = KMA_ALL));
	ASSERT_BLOCKS(0);

	SET(0, KMA_BLOCK_PAGES, KMA_PRIVATE);
	vm_mem_region_set_flags(self->vm, KMA_SLOT, 0);
	ASSERT_BLOCKS(1);
	TEST_ASSERT(warned || !kernel_has_warned(), "the kernel has warned, see its log");

	kma_issue(vcpu, KMA_OP_READ, KMA_GPA, 1, 0);
	kma_finish_in_fault(vcpu, EFAULT, KMA_GPA, KVM_MEMORY_EXIT_FLAG_PRIVATE);
	SET(0, KMA_BLOCK_PAGES, 0);
	TEST_ASSERT_EQ(kma_finish(vcpu).zero, 1);
}

TEST_HARNESS_MAIN
