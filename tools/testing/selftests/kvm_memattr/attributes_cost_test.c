// SPDX-License-Identifier: GPL-2.0
/*
 * What a set costs depends on its own pages, and not on how much has been set
 * around them. What mainline does for each page that is cleared takes 16 times as long.
 */
#include <time.h>

#include "kvm_memattr_guest.h"

#define TIMES_SLOWER	12

FIXTURE(cost) {
	struct kvm_vm *vm;
};

FIXTURE_SETUP(cost)
{
	KMA_REQUIRE_PROTECTED_VMS();
	self->vm = vm_create_barebones_type(KVM_X86_SW_PROTECTED_VM);
	/* The module's cost, not mainline's. */
	kma_view_of(self->vm);
}

FIXTURE_TEARDOWN(cost)
{
	kvm_vm_free(self->vm);
}

/* Sets pages one by one. Returns the time of the fastest: noise only adds to it. */
static s64 set_pages(struct kvm_vm *vm, u64 gpa, int pages, s64 step, u64 attributes)
{
	s64 best = INT64_MAX;

	for (int i = 0; i < pages; i++, gpa += step) {
		struct timespec start;

		clock_gettime(CLOCK_MONOTONIC, &start);
		kma_set(vm, gpa, PAGE_SIZE, attributes);
		best = min(best, timespec_to_ns(timespec_elapsed(start)));
	}
	return best;
}

static void assert_not_slower(s64 ns, s64 than)
{
	printf("# figure: %ld ns a page, %ld ns at first\n", ns, than);
	TEST_ASSERT(ns < than * TIMES_SLOWER, "%ld ns a page, %ld ns at first", ns, than);
}

TEST_F(cost, ascending_pages_do_not_get_slower)
{
	s64 first = set_pages(self->vm, KMA_GPA, 64, PAGE_SIZE, KMA_PRIVATE);

	kma_set(self->vm, KMA_GPA + 64 * PAGE_SIZE, SZ_64M, KMA_PRIVATE);
	assert_not_slower(set_pages(self->vm, KMA_GPA + 64 * PAGE_SIZE + SZ_64M, 64, PAGE_SIZE,
				    KMA_PRIVATE), first);
}

TEST_F(cost, descending_pages_do_not_get_slower)
{
	u64 end = KMA_GPA + SZ_512M;
	s64 first = set_pages(self->vm, end, 64, -(s64)PAGE_SIZE, KMA_PRIVATE);

	kma_set(self->vm, end - 63 * PAGE_SIZE - SZ_64M, SZ_64M, KMA_PRIVATE);
	assert_not_slower(set_pages(self->vm, end - 64 * PAGE_SIZE - SZ_64M, 64, -(s64)PAGE_SIZE,
				    KMA_PRIVATE), first);
}

TEST_F(cost, page_of_a_large_private_range_costs_what_a_page_does)
{
	s64 first = set_pages(self->vm, KMA_GPA, 64, PAGE_SIZE, KMA_PRIVATE);

	kma_set(self->vm, KMA_GPA, SZ_256M, KMA_PRIVATE);
	assert_not_slower(set_pages(self->vm, KMA_GPA + SZ_256M - SZ_1M, 64, 2 * PAGE_SIZE, 0),
			  first);
}

/*
 * Each page is the first in its block, so that it decides about a hugepage: which of
 * them are possible is known without a look at all of their pages.
 */
TEST_F(cost, page_that_decides_about_hugepages_costs_what_a_page_does)
{
	s64 first = set_pages(self->vm, KMA_GPA + SZ_2G, 64, PAGE_SIZE, KMA_PRIVATE);
	u64 gpa = KMA_GPA + SZ_512M;

	vm_userspace_mem_region_add(self->vm, VM_MEM_SRC_ANONYMOUS, KMA_GPA, KMA_SLOT,
				    SZ_1G / PAGE_SIZE, 0);
	assert_not_slower(set_pages(self->vm, gpa, 64, SZ_2M, KMA_PRIVATE), first);
	assert_not_slower(set_pages(self->vm, gpa, 64, SZ_2M, 0), first);
}

TEST_HARNESS_MAIN
