// SPDX-License-Identifier: GPL-2.0
/*
 * Attributes belong to guest frame numbers, not to slots: they outlive a
 * slot's deletion and its move, and a slot that is created later honours
 * them. And what an access that cannot be served exits with.
 */
#include "kvm_memattr_guest.h"

FIXTURE(slots) {
	struct kma_guest g;
};

FIXTURE_SETUP(slots)
{
	KMA_REQUIRE_PROTECTED_VMS();
	kma_protected_guest_init(&self->g);
}

FIXTURE_TEARDOWN(slots)
{
	kvm_vm_free(self->g.vm);
}

static void assert_middle_is_private(struct kvm_vm *vm, u64 gpa)
{
	struct kma_view view = kma_view_of(vm);
	char line[64];

	KMA_RUN_PRIVATE(line, gpa + 16 * PAGE_SIZE, 32 * PAGE_SIZE);
	kma_assert_runs(&view, line);
}

/* Instead of the slot with guest_memfd, one that has no private memory. */
static void add_slot_without_private_memory(struct kma_guest *g)
{
	vm_mem_region_delete(g->vm, KMA_SLOT);
	kma_add_slot(g, 0, -1);
	kma_host_write(g, KMA_ALL, KMA_KIND_SHARED);
}

static void assert_exits_private(struct kma_guest *g, enum kma_op op, u64 page)
{
	kma_issue(g->vcpu, op, g->gpa, 1ull << page, KMA_KIND_NEW);
	kma_finish_in_fault(g->vcpu, EFAULT, g->gpa + page * PAGE_SIZE,
			    KVM_MEMORY_EXIT_FLAG_PRIVATE);
}

/* The guest's access goes on where it was once its page is shared. */
static void share_and_go_on(struct kma_guest *g, u64 page)
{
	kma_set(g->vm, g->gpa + page * PAGE_SIZE, PAGE_SIZE, 0);
	kma_finish(g->vcpu);
}

TEST_F(slots, attributes_outlive_the_deletion_of_their_slot)
{
	kma_prepare(&self->g, KMA_MIDDLE);
	vm_mem_region_delete(self->g.vm, KMA_SLOT);
	assert_middle_is_private(self->g.vm, self->g.gpa);
}

TEST_F(slots, new_slot_in_the_place_of_a_deleted_one_honours_them)
{
	struct kma_guest *g = &self->g;

	kma_prepare(g, KMA_MIDDLE);
	vm_mem_region_delete(g->vm, KMA_SLOT);
	kma_add_slot(g, KVM_MEM_GUEST_MEMFD, -1);
	kma_host_write(g, KMA_ALL, KMA_KIND_SHARED);

	kma_look(g, KMA_SEEN(.shared = ~KMA_MIDDLE, .zero = KMA_MIDDLE));
	assert_middle_is_private(g->vm, g->gpa);
}

TEST_F(slots, slot_created_after_the_attributes_honours_them)
{
	struct kma_guest later = { .vm = self->g.vm, .vcpu = self->g.vcpu };

	later.gpa = KMA_GPA + SZ_1G;
	kma_set(later.vm, later.gpa + 16 * PAGE_SIZE, 32 * PAGE_SIZE, KMA_PRIVATE);

	vm_mem_add(later.vm, VM_MEM_SRC_SHMEM, later.gpa, KMA_SLOT + 1, KMA_PAGES,
		   KVM_MEM_GUEST_MEMFD, -1, 0);
	later.region = memslot2region(later.vm, KMA_SLOT + 1);
	virt_map(later.vm, later.gpa, later.gpa, KMA_PAGES);
	kma_host_write(&later, KMA_ALL, KMA_KIND_SHARED);

	kma_look(&later, KMA_SEEN(.shared = ~KMA_MIDDLE, .zero = KMA_MIDDLE));
	assert_middle_is_private(later.vm, later.gpa);
}

TEST_F(slots, attributes_changed_while_there_is_no_slot_hold_when_there_is)
{
	struct kma_guest *g = &self->g;

	kma_prepare(g, KMA_ALL);
	vm_mem_region_delete(g->vm, KMA_SLOT);
	kma_convert(g, KMA_MIDDLE);
	kma_add_slot(g, KVM_MEM_GUEST_MEMFD, -1);
	kma_host_write(g, KMA_ALL, KMA_KIND_SHARED);

	kma_look(g, KMA_SEEN(.shared = ~KMA_MIDDLE, .zero = KMA_MIDDLE));
	assert_middle_is_private(g->vm, g->gpa);
}

/* KVM has noted in its page tables that there's a device. */
TEST_F(slots, page_read_while_there_is_no_slot_is_private_memory_afterwards)
{
	struct kma_guest *g = &self->g;

	vm_mem_region_delete(g->vm, KMA_SLOT);
	kma_read_device(g, 5);
	kma_set(g->vm, g->gpa, KMA_SIZE, KMA_PRIVATE);
	kma_add_slot(g, KVM_MEM_GUEST_MEMFD, -1);
	kma_write(g, KMA_ALL, KMA_KIND_PRIVATE);
	kma_look(g, KMA_SEEN(.private = KMA_ALL));
}

TEST_F(slots, moved_slot_leaves_them_where_they_are)
{
	struct kma_guest *g = &self->g;
	const u64 old = g->gpa, new = KMA_GPA + SZ_1G;

	add_slot_without_private_memory(g);
	kma_convert(g, KMA_MIDDLE);
	vm_mem_region_move(g->vm, KMA_SLOT, new);
	assert_middle_is_private(g->vm, g->gpa);

	/* At the new place everything is shared. */
	g->gpa = new;
	virt_map(g->vm, new, new, KMA_PAGES);
	kma_host_write(g, KMA_ALL, KMA_KIND_SHARED);
	kma_look(g, KMA_SEEN(.shared = KMA_ALL));

	/* The old one still has what was set there. */
	g->gpa = old;
	assert_exits_private(g, KMA_OP_READ, 16);
}

TEST_F(slots, slot_moved_onto_private_pages_honours_them)
{
	struct kma_guest *g = &self->g;

	add_slot_without_private_memory(g);
	kma_set(g->vm, KMA_GPA + SZ_1G + 4 * PAGE_SIZE, PAGE_SIZE, KMA_PRIVATE);
	vm_mem_region_move(g->vm, KMA_SLOT, KMA_GPA + SZ_1G);

	g->gpa = KMA_GPA + SZ_1G;
	virt_map(g->vm, g->gpa, g->gpa, KMA_PAGES);
	kma_host_write(g, KMA_ALL, KMA_KIND_SHARED);
	kma_look(g, KMA_SEEN(.shared = ~(1ull << 4)));
	assert_exits_private(g, KMA_OP_READ, 4);
}

TEST_F(slots, private_read_without_private_memory_exits)
{
	add_slot_without_private_memory(&self->g);
	kma_convert(&self->g, KMA_MIDDLE);
	assert_exits_private(&self->g, KMA_OP_READ, 16);
}

TEST_F(slots, private_write_without_private_memory_exits)
{
	add_slot_without_private_memory(&self->g);
	kma_convert(&self->g, KMA_MIDDLE);
	assert_exits_private(&self->g, KMA_OP_WRITE, 47);
	TEST_ASSERT_EQ(*(u64 *)(self->g.region->host_mem + 47 * PAGE_SIZE),
		       kma_word(KMA_KIND_SHARED, self->g.gpa + 47 * PAGE_SIZE));
}

TEST_F(slots, shared_neighbours_of_a_page_that_exits_do_not)
{
	add_slot_without_private_memory(&self->g);
	kma_convert(&self->g, KMA_MIDDLE);
	kma_look(&self->g, KMA_SEEN(.shared = ~KMA_MIDDLE));
}

TEST_F(slots, page_that_was_mapped_exits_once_private)
{
	add_slot_without_private_memory(&self->g);
	kma_look(&self->g, KMA_SEEN(.shared = KMA_ALL));
	kma_set(self->g.vm, self->g.gpa + 8 * PAGE_SIZE, PAGE_SIZE, KMA_PRIVATE);
	assert_exits_private(&self->g, KMA_OP_READ, 8);
}

TEST_F(slots, guest_goes_on_after_the_page_is_shared_again)
{
	struct kma_guest *g = &self->g;

	add_slot_without_private_memory(g);
	kma_convert(g, KMA_MIDDLE);
	assert_exits_private(g, KMA_OP_WRITE, 20);
	assert_exits_private(g, KMA_OP_WRITE, 20);
	share_and_go_on(g, 20);
	TEST_ASSERT_EQ(*(u64 *)(g->region->host_mem + 20 * PAGE_SIZE),
		       kma_word(KMA_KIND_NEW, g->gpa + 20 * PAGE_SIZE));
}

TEST_F(slots, private_access_without_any_slot_exits)
{
	kma_convert(&self->g, KMA_MIDDLE);
	vm_mem_region_delete(self->g.vm, KMA_SLOT);
	assert_exits_private(&self->g, KMA_OP_READ, 32);
}

TEST_HARNESS_MAIN
