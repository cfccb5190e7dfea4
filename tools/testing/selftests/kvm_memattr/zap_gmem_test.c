// SPDX-License-Identifier: GPL-2.0
/*
 * An event on a guest_memfd that sits beside a userspace mapping (a hole
 * punched, a memory error, the last reference dropped) is about private
 * memory: it zaps the private mappings in its range, and not one of the shared
 * ones.
 */
#include "kvm_memattr_guest.h"

FIXTURE(gmem) {
	struct kma_guest g;
};

FIXTURE_SETUP(gmem)
{
	KMA_REQUIRE_PROTECTED_VMS();
	kma_protected_guest_init(&self->g);
}

FIXTURE_TEARDOWN(gmem)
{
	kvm_vm_free(self->g.vm);
}

static void punch(struct kma_guest *g, u64 first, u64 nr)
{
	vm_guest_mem_punch_hole(g->vm, g->gpa + first * PAGE_SIZE, nr * PAGE_SIZE);
}

/* The last reference of userspace: release runs before close() returns. */
static void release(struct kma_guest *g)
{
	kvm_close(g->region->region.guest_memfd);
	g->region->region.guest_memfd = -1;
}

TEST_F(gmem, hole_leaves_shared_pages_mapped)
{
	kma_prepare(&self->g, KMA_NONE);
	punch(&self->g, 0, KMA_PAGES);
	KMA_ASSERT_FAULTS(&self->g, 0, KMA_SEEN_PRIVATE(KMA_NONE));
}

TEST_F(gmem, hole_under_shared_pages_is_seen_when_they_are_private)
{
	kma_prepare(&self->g, KMA_NONE);
	punch(&self->g, 0, KMA_PAGES);
	kma_set(self->g.vm, self->g.gpa, KMA_SIZE, KMA_PRIVATE);
	KMA_ASSERT_FAULTS(&self->g, KMA_PAGES, KMA_SEEN(.zero = KMA_ALL));
}

TEST_F(gmem, hole_drops_private_pages)
{
	kma_prepare(&self->g, KMA_ALL);
	punch(&self->g, 0, KMA_PAGES);
	KMA_ASSERT_FAULTS(&self->g, KMA_PAGES, KMA_SEEN(.zero = KMA_ALL));
}

TEST_F(gmem, hole_leaves_private_pages_beside_it_mapped)
{
	kma_prepare(&self->g, KMA_ALL);
	punch(&self->g, 16, 32);
	KMA_ASSERT_FAULTS(&self->g, 0, KMA_SEEN(.private = ~KMA_MIDDLE));
	KMA_ASSERT_FAULTS(&self->g, 32, KMA_SEEN(.zero = KMA_MIDDLE));
}

TEST_F(gmem, hole_over_alternate_pages_drops_the_private_ones)
{
	kma_prepare(&self->g, KMA_ODD);
	punch(&self->g, 0, KMA_PAGES);
	KMA_ASSERT_FAULTS(&self->g, 0, KMA_SEEN(.shared = KMA_EVEN));
	KMA_ASSERT_FAULTS(&self->g, KMA_PAGES / 2, KMA_SEEN(.zero = KMA_ODD));
}

TEST_F(gmem, hole_changes_no_attribute)
{
	kma_prepare(&self->g, KMA_ODD);
	punch(&self->g, 0, KMA_PAGES);
	kma_write(&self->g, KMA_ALL, KMA_KIND_NEW);

	/* The host reads what went to shared memory and only that. */
	for (int i = 0; i < KMA_PAGES; i++) {
		u64 word = *(u64 *)(self->g.region->host_mem + i * PAGE_SIZE);

		TEST_ASSERT_EQ(word >> 56, i % 2 ? KMA_KIND_SHARED : KMA_KIND_NEW);
	}
}

/* Nothing in userspace has the page, so that the observer has to do it. */
static void poison(struct kma_guest *g, u64 page)
{
	int ret, fd = open("/sys/kernel/debug/kvm_memattr_observer/poison", O_WRONLY);

	TEST_ASSERT(fd >= 0, "the observer is not loaded: %s", strerror(errno));
	ret = dprintf(fd, "%d %lu", g->region->region.guest_memfd, page);
	TEST_ASSERT(ret > 0, "no memory error in page %lu: %s", page, strerror(errno));
	close(fd);
}

/* The private page cannot be had. The guest goes on with the page of shared memory. */
static void assert_lost(struct kma_guest *g, u64 page, int why)
{
	kma_issue(g->vcpu, KMA_OP_READ, g->gpa, 1ull << page, 0);
	kma_finish_in_fault(g->vcpu, why, g->gpa + page * PAGE_SIZE,
			    KVM_MEMORY_EXIT_FLAG_PRIVATE);
	kma_set(g->vm, g->gpa + page * PAGE_SIZE, PAGE_SIZE, 0);
	TEST_ASSERT_EQ(kma_finish(g->vcpu).shared, 1ull << page);
}

TEST_F(gmem, memory_error_drops_the_private_page_and_no_other)
{
	const u64 bad = 1ull << 5;

	kma_prepare(&self->g, KMA_ODD);
	poison(&self->g, 5);
	KMA_ASSERT_FAULTS(&self->g, 0, KMA_SEEN(.shared = KMA_EVEN, .private = KMA_ODD & ~bad));
	assert_lost(&self->g, 5, EHWPOISON);
}

TEST_F(gmem, memory_error_leaves_the_shared_page_mapped)
{
	kma_prepare(&self->g, KMA_NONE);
	poison(&self->g, 5);
	KMA_ASSERT_FAULTS(&self->g, 0, KMA_SEEN_PRIVATE(KMA_NONE));

	kma_set(self->g.vm, self->g.gpa, KMA_SIZE, KMA_PRIVATE);
	assert_lost(&self->g, 5, EHWPOISON);
}

TEST_F(gmem, release_leaves_shared_pages_mapped)
{
	kma_prepare(&self->g, KMA_ODD);
	release(&self->g);
	KMA_ASSERT_FAULTS(&self->g, 0, KMA_SEEN(.shared = KMA_EVEN));
}

TEST_F(gmem, release_drops_private_pages)
{
	struct kma_guest *g = &self->g;

	for (int page = 1; page < KMA_PAGES; page += 21) {
		if (page == 1) {
			kma_prepare(g, KMA_ODD | 1ull << 22);
			release(g);
		}
		assert_lost(g, page, EFAULT);
	}
}

TEST_F(gmem, release_of_one_file_leaves_the_pages_of_another_mapped)
{
	struct kma_guest *g = &self->g, other = { .gpa = KMA_GPA + SZ_1G };
	struct kma_seen seen = {};

	other.vm = g->vm;
	other.vcpu = g->vcpu;
	vm_mem_add(g->vm, VM_MEM_SRC_SHMEM, other.gpa, KMA_SLOT + 1, KMA_PAGES,
		   KVM_MEM_GUEST_MEMFD, -1, 0);
	other.region = memslot2region(g->vm, KMA_SLOT + 1);
	virt_map(g->vm, other.gpa, other.gpa, KMA_PAGES);

	kma_prepare(g, KMA_ALL);
	kma_prepare(&other, KMA_ALL);
	release(&other);
	KMA_ASSERT_FAULTS(g, 0, KMA_SEEN_PRIVATE(KMA_ALL));

	kma_set(g->vm, other.gpa, KMA_SIZE, 0);
	seen = kma_read(&other, KMA_ALL);
	TEST_ASSERT_EQ(seen.shared, KMA_ALL);
}

TEST_HARNESS_MAIN
