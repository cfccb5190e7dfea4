// SPDX-License-Identifier: GPL-2.0
/*
 * What is private belongs to the memory, by its offset in the file: through
 * whichever slot the guest has it, whether it's there or punched out, and for as
 * long as somebody has the file.
 */
#include "kvm_memattr_gmem.h"
#include "kvm_memattr_observe.h"

/* Two windows' worth of memory, of which a slot has a part. */
#define FILE_PAGES	(2 * KMA_PAGES)
#define FILE_SIZE	((u64)FILE_PAGES * PAGE_SIZE)

#define OTHER_SLOT	(KMA_SLOT + 1)
#define OTHER_GPA	(KMA_GPA + SZ_1G)

FIXTURE(slots) {
	struct kma_guest g;
	int fd;
	void *mem;
	int observer;
};

FIXTURE_SETUP(slots)
{
	KMA_REQUIRE_PROTECTED_VMS();
	gmem_catch_sigbus();
	self->g.gpa = KMA_GPA;
	self->g.vm = vm_create_shape_with_one_vcpu(kma_protected_shape, &self->g.vcpu,
						   kma_guest_code);
	self->fd = vm_create_guest_memfd(self->g.vm, FILE_SIZE, GMEM_IN_PLACE);
	self->mem = kvm_mmap(FILE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, self->fd);
	virt_map(self->g.vm, KMA_GPA, KMA_GPA, KMA_PAGES);
	virt_map(self->g.vm, OTHER_GPA, OTHER_GPA, KMA_PAGES);
	kma_warm_up(self->g.vcpu);
	self->observer = kma_observer_open();
}

FIXTURE_TEARDOWN(slots)
{
	if (!self->g.vm)
		return;
	close(self->observer);
	kvm_munmap(self->mem, FILE_SIZE);
	if (self->fd >= 0)
		kvm_close(self->fd);
	kvm_vm_free(self->g.vm);
}

static void add_slot(FIXTURE_DATA(slots) * self, u32 slot, u64 gpa, u64 first)
{
	vm_mem_add(self->g.vm, VM_MEM_SRC_SHMEM, gpa, slot, KMA_PAGES, KVM_MEM_GUEST_MEMFD,
		   self->fd, first * PAGE_SIZE);
}

/* Which pages of the window at @gpa a page fault takes for private. */
static u64 private_at(FIXTURE_DATA(slots) * self, u64 gpa)
{
	u64 pages = 0, first = gpa / PAGE_SIZE;

	kma_observe(self->observer, KMA_OBSERVE_PRIVATE, self->g.vm, 0, first,
		    first + KMA_PAGES, &pages, sizeof(pages));
	return pages;
}

static void set_pages(FIXTURE_DATA(slots) * self, u64 first, u64 nr, u64 attributes)
{
	GMEM_ASSERT_SET(self->fd, first * PAGE_SIZE, nr * PAGE_SIZE, attributes, GMEM_PRESERVE);
}

/* The other window, for the commands of its own. */
static struct kma_guest other_of(FIXTURE_DATA(slots) * self)
{
	struct kma_guest other = self->g;

	other.gpa = OTHER_GPA;
	return other;
}

TEST_F(slots, state_set_before_there_is_a_slot_holds)
{
	set_pages(self, 16, 32, 0);
	add_slot(self, KMA_SLOT, KMA_GPA, 0);
	TEST_ASSERT_EQ(private_at(self, KMA_GPA), ~KMA_MIDDLE);
	TEST_ASSERT_EQ(gmem_unloadable(self->mem), ~KMA_MIDDLE);
	kma_fill(&self->g, KMA_ALL, KMA_KIND_NEW);
	kma_scan(&self->g, KMA_SEEN(.fresh = KMA_ALL));
}

TEST_F(slots, state_and_contents_outlive_the_slot)
{
	add_slot(self, KMA_SLOT, KMA_GPA, 0);
	set_pages(self, 16, 32, 0);
	kma_fill(&self->g, KMA_ALL, KMA_KIND_NEW);

	vm_mem_region_delete(self->g.vm, KMA_SLOT);
	TEST_ASSERT_EQ(gmem_unloadable(self->mem), ~KMA_MIDDLE);
	/* Without a slot a gfn has what the VM keeps for it: nothing. */
	TEST_ASSERT_EQ(private_at(self, KMA_GPA), KMA_NONE);

	add_slot(self, KMA_SLOT, KMA_GPA, 0);
	TEST_ASSERT_EQ(private_at(self, KMA_GPA), ~KMA_MIDDLE);
	kma_scan(&self->g, KMA_SEEN(.fresh = KMA_ALL));
}

/* KVM has noted in its page tables that there's a device. */
TEST_F(slots, page_read_while_there_is_no_slot_is_private_memory_afterwards)
{
	kma_read_device(&self->g, 5);
	add_slot(self, KMA_SLOT, KMA_GPA, 0);
	kma_fill(&self->g, KMA_ALL, KMA_KIND_NEW);
	kma_scan(&self->g, KMA_SEEN(.fresh = KMA_ALL));
}

TEST_F(slots, state_changes_while_there_is_no_slot)
{
	add_slot(self, KMA_SLOT, KMA_GPA, 0);
	kma_fill(&self->g, KMA_ALL, KMA_KIND_NEW);
	vm_mem_region_delete(self->g.vm, KMA_SLOT);

	set_pages(self, 0, KMA_PAGES, 0);
	set_pages(self, 16, 32, KMA_PRIVATE);
	add_slot(self, KMA_SLOT, KMA_GPA, 0);
	TEST_ASSERT_EQ(private_at(self, KMA_GPA), KMA_MIDDLE);
	kma_scan(&self->g, KMA_SEEN(.fresh = KMA_ALL));
}

TEST_F(slots, state_goes_with_the_offset_to_another_gfn)
{
	add_slot(self, KMA_SLOT, KMA_GPA, 0);
	set_pages(self, 16, 32, 0);
	vm_mem_region_delete(self->g.vm, KMA_SLOT);

	add_slot(self, OTHER_SLOT, OTHER_GPA, 0);
	TEST_ASSERT_EQ(private_at(self, OTHER_GPA), ~KMA_MIDDLE);
	TEST_ASSERT_EQ(private_at(self, KMA_GPA), KMA_NONE);
}

TEST_F(slots, another_offset_has_a_state_of_its_own)
{
	set_pages(self, 32, KMA_PAGES, 0);
	for (u64 first = 0; first <= KMA_PAGES; first += 16) {
		u64 shared = KMA_ALL;

		add_slot(self, KMA_SLOT, KMA_GPA, first);
		/* The pages [32, 96) of the file are shared. */
		if (first < 32)
			shared <<= 32 - first;
		else
			shared >>= first - 32;
		TEST_ASSERT_EQ(private_at(self, KMA_GPA), ~shared);
		vm_mem_region_delete(self->g.vm, KMA_SLOT);
	}
}

TEST_F(slots, two_slots_of_a_file_are_converted_by_one_call)
{
	struct kma_guest other = other_of(self);

	/* The second part of the file is below the first one. */
	add_slot(self, KMA_SLOT, KMA_GPA, KMA_PAGES);
	add_slot(self, OTHER_SLOT, OTHER_GPA, 0);
	kma_fill(&self->g, KMA_ALL, KMA_KIND_NEW);
	kma_fill(&other, KMA_ALL, KMA_KIND_NEW);
	KMA_ASSERT_FAULTS(&self->g, 0, KMA_SEEN(.fresh = KMA_ALL));
	KMA_ASSERT_FAULTS(&other, 0, KMA_SEEN(.fresh = KMA_ALL));

	set_pages(self, KMA_PAGES - 16, 32, 0);
	TEST_ASSERT_EQ(private_at(self, OTHER_GPA), KMA_ALL >> 16);
	TEST_ASSERT_EQ(private_at(self, KMA_GPA), KMA_ALL << 16);

	/* What has changed was zapped in both, and nothing else in either. */
	KMA_ASSERT_FAULTS(&other, 0, KMA_SEEN(.fresh = KMA_ALL >> 16));
	KMA_ASSERT_FAULTS(&self->g, 0, KMA_SEEN(.fresh = KMA_ALL << 16));
	KMA_ASSERT_FAULTS(&other, 16, KMA_SEEN(.fresh = ~(KMA_ALL >> 16)));
	KMA_ASSERT_FAULTS(&self->g, 16, KMA_SEEN(.fresh = ~(KMA_ALL << 16)));
}

TEST_F(slots, two_files_are_converted_each_by_itself)
{
	int fd = vm_create_guest_memfd(self->g.vm, KMA_SIZE, GMEM_SHARED);

	add_slot(self, KMA_SLOT, KMA_GPA, 0);
	vm_mem_add(self->g.vm, VM_MEM_SRC_SHMEM, OTHER_GPA, OTHER_SLOT, KMA_PAGES,
		   KVM_MEM_GUEST_MEMFD, fd, 0);
	TEST_ASSERT_EQ(private_at(self, KMA_GPA), KMA_ALL);
	TEST_ASSERT_EQ(private_at(self, OTHER_GPA), KMA_NONE);

	GMEM_ASSERT_SET(fd, 0, KMA_SIZE, KMA_PRIVATE, 0);
	set_pages(self, 16, 32, 0);
	TEST_ASSERT_EQ(private_at(self, KMA_GPA), ~KMA_MIDDLE);
	TEST_ASSERT_EQ(private_at(self, OTHER_GPA), KMA_ALL);
	kvm_close(fd);
}

TEST_F(slots, hole_frees_the_memory_and_keeps_the_state)
{
	add_slot(self, KMA_SLOT, KMA_GPA, 0);
	set_pages(self, 16, 32, 0);
	kma_fill(&self->g, KMA_ALL, KMA_KIND_NEW);

	gmem_punch(self->fd, 8 * PAGE_SIZE, 48 * PAGE_SIZE);
	TEST_ASSERT_EQ(private_at(self, KMA_GPA), ~KMA_MIDDLE);
	TEST_ASSERT_EQ(gmem_unloadable(self->mem), ~KMA_MIDDLE);
	kma_scan(&self->g, KMA_SEEN(.zero = KMA_ALL << 8 & KMA_ALL >> 8,
				    .fresh = ~(KMA_ALL << 8 & KMA_ALL >> 8)));
}

TEST_F(slots, hole_drops_the_guests_mappings_of_both_states_and_no_others)
{
	const u64 hole = KMA_ALL << 8 & KMA_ALL >> 8;

	add_slot(self, KMA_SLOT, KMA_GPA, 0);
	set_pages(self, 16, 32, 0);
	kma_fill(&self->g, KMA_ALL, KMA_KIND_NEW);
	KMA_ASSERT_FAULTS(&self->g, 0, KMA_SEEN(.fresh = KMA_ALL));

	gmem_punch(self->fd, 8 * PAGE_SIZE, 48 * PAGE_SIZE);
	KMA_ASSERT_FAULTS(&self->g, 0, KMA_SEEN(.fresh = ~hole));
	KMA_ASSERT_FAULTS(&self->g, 48, KMA_SEEN(.zero = hole));
}

TEST_F(slots, allocating_keeps_state_and_contents)
{
	add_slot(self, KMA_SLOT, KMA_GPA, 0);
	set_pages(self, 16, 32, 0);
	kma_fill(&self->g, KMA_ODD, KMA_KIND_NEW);
	gmem_allocate(self->fd, 0, FILE_SIZE);
	TEST_ASSERT_EQ(private_at(self, KMA_GPA), ~KMA_MIDDLE);
	TEST_ASSERT_EQ(gmem_unloadable(self->mem), ~KMA_MIDDLE);
	kma_scan(&self->g, KMA_SEEN(.fresh = KMA_ODD, .zero = KMA_EVEN));
}

/* The slots go with the VM, the memory stays with the file. */
TEST_F(slots, file_without_its_vms_fd_is_converted)
{
	struct kma_seen seen = {};

	add_slot(self, KMA_SLOT, KMA_GPA, 0);
	kma_fill(&self->g, KMA_ALL, KMA_KIND_NEW);
	close(self->observer);
	kvm_vm_free(self->g.vm);
	self->g.vm = NULL;

	TEST_ASSERT_EQ(gmem_unloadable(self->mem), KMA_ALL);
	set_pages(self, 0, KMA_PAGES, 0);
	TEST_ASSERT_EQ(gmem_unloadable(self->mem), KMA_NONE);
	for (u64 page = 0; page < KMA_PAGES; page++)
		kma_scan_page(self->mem + page * PAGE_SIZE, KMA_GPA + page * PAGE_SIZE,
			      1ull << page, &seen);
	kma_assert_seen("the host", seen, KMA_SEEN(.fresh = KMA_ALL));

	set_pages(self, 16, 32, KMA_PRIVATE);
	TEST_ASSERT_EQ(gmem_unloadable(self->mem), KMA_MIDDLE);
	kvm_munmap(self->mem, FILE_SIZE);
	kvm_close(self->fd);
}

TEST_F(slots, mapping_without_any_fd_keeps_its_state)
{
	set_pages(self, 16, 32, 0);
	kvm_free_fd(self->fd);
	TEST_ASSERT_EQ(gmem_unloadable(self->mem), ~KMA_MIDDLE);
}

TEST_HARNESS_MAIN
