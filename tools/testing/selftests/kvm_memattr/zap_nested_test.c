// SPDX-License-Identifier: GPL-2.0
/*
 * What a nested guest sees, which KVM maps through shadow pages: these are
 * prefetched for the neighbours of a page that faults, without a look at the
 * neighbours' attributes on mainline.
 */
#include <linux/falloc.h>

#include "kvm_memattr_guest.h"
#include "svm_util.h"

#define PAGES	8

/* What the nested guest has read, a word a page. */
static u64 seen[PAGES];

static void l2_code(void)
{
	/* The page that is shared first: its neighbours are what is prefetched. */
	READ_ONCE(*(u64 *)(KMA_GPA + 3 * PAGE_SIZE));

	for (int step = 1; ; step++) {
		for (int page = 0; page < PAGES; page++)
			WRITE_ONCE(seen[page], READ_ONCE(*(u64 *)(KMA_GPA + page * PAGE_SIZE)));
		GUEST_SYNC(step);
	}
}

static void l1_code(struct svm_test_data *svm)
{
	for (int page = 0; page < PAGES; page++)
		WRITE_ONCE(*(u64 *)(KMA_GPA + page * PAGE_SIZE), 0x5000 + page);
	GUEST_SYNC(0);

	generic_svm_setup(svm, l2_code);
	run_guest(svm->vmcb, svm->vmcb_gpa);
	GUEST_ASSERT(0);
}

FIXTURE(nested) {
	struct kvm_vm *vm;
	struct kvm_vcpu *vcpu;
	u64 *shared;
};

static void run_to(struct kvm_vcpu *vcpu, u64 step)
{
	struct ucall uc;

	vcpu_run(vcpu);
	switch (get_ucall(vcpu, &uc)) {
	case UCALL_SYNC:
		TEST_ASSERT_EQ(uc.args[1], step);
		break;
	case UCALL_ABORT:
		REPORT_GUEST_ASSERT(uc);
	default:
		TEST_FAIL("exit %u instead of step %lu", vcpu->run->exit_reason, step);
	}
}

static void write_shared(u64 *shared, u64 base)
{
	for (int page = 0; page < PAGES; page++)
		shared[page * PAGE_SIZE / sizeof(u64)] = base + page;
}

/* All pages private with 0x5000 and up in them, then 3 and 6 shared, with 0x1000 and up. */
FIXTURE_SETUP(nested)
{
	gva_t svm;

	TEST_REQUIRE(kvm_cpu_has(X86_FEATURE_SVM));
	TEST_REQUIRE(kvm_cpu_has_npt());
	KMA_REQUIRE_PROTECTED_VMS();

	self->vm = vm_create_shape_with_one_vcpu(kma_protected_shape, &self->vcpu, l1_code);
	vm_enable_tdp(self->vm);
	vcpu_alloc_svm(self->vm, &svm);
	vcpu_args_set(self->vcpu, 1, svm);

	vm_mem_add(self->vm, VM_MEM_SRC_ANONYMOUS, KMA_GPA, KMA_SLOT, PAGES,
		   KVM_MEM_GUEST_MEMFD, -1, 0);
	virt_map(self->vm, KMA_GPA, KMA_GPA, PAGES);
	tdp_identity_map_default_memslots(self->vm);
	for (u64 gpa = KMA_GPA; gpa < KMA_GPA + PAGES * PAGE_SIZE; gpa += PAGE_SIZE) {
		tdp_map(self->vm, gpa, gpa, PAGE_SIZE);
		/* Prefetching leaves out what the guest has not accessed yet. */
		*tdp_get_pte(self->vm, gpa) |= PTE_ACCESSED_MASK(&self->vm->stage2_mmu) |
					       PTE_DIRTY_MASK(&self->vm->stage2_mmu);
	}

	self->shared = addr_gpa2hva(self->vm, KMA_GPA);
	write_shared(self->shared, 0x1000);
	kma_set(self->vm, KMA_GPA, PAGES * PAGE_SIZE, KMA_PRIVATE);
	run_to(self->vcpu, 0);
	kma_set(self->vm, KMA_GPA + 3 * PAGE_SIZE, PAGE_SIZE, 0);
	kma_set(self->vm, KMA_GPA + 6 * PAGE_SIZE, PAGE_SIZE, 0);
}

FIXTURE_TEARDOWN(nested)
{
	kvm_vm_free(self->vm);
}

/* A bit of @shared for each page that is to be the shared one. */
static void assert_seen(struct kvm_vm *vm, u64 private_base, u64 shared_base, unsigned int shared)
{
	u64 *words = addr_gva2hva(vm, (gva_t)seen);

	for (int page = 0; page < PAGES; page++) {
		u64 base = shared & BIT(page) ? shared_base : private_base;
		u64 want = base ? base + page : 0;

		TEST_ASSERT(words[page] == want, "page %d: wanted %lx, the nested guest read %lx",
			    page, want, words[page]);
	}
}

TEST_F(nested, private_neighbours_of_a_shared_page_are_private)
{
	run_to(self->vcpu, 1);
	assert_seen(self->vm, 0x5000, 0x1000, BIT(3) | BIT(6));
}

TEST_F(nested, new_backing_of_shared_pages_is_seen)
{
	run_to(self->vcpu, 1);
	kvm_madvise(self->shared, PAGES * PAGE_SIZE, MADV_DONTNEED);
	write_shared(self->shared, 0x2000);
	run_to(self->vcpu, 2);
	assert_seen(self->vm, 0x5000, 0x2000, BIT(3) | BIT(6));
}

TEST_F(nested, conversions_are_seen)
{
	run_to(self->vcpu, 1);
	kma_set(self->vm, KMA_GPA, 4 * PAGE_SIZE, 0);
	kma_set(self->vm, KMA_GPA + 6 * PAGE_SIZE, PAGE_SIZE, KMA_PRIVATE);
	run_to(self->vcpu, 2);
	assert_seen(self->vm, 0x5000, 0x1000, BIT(0) | BIT(1) | BIT(2) | BIT(3));
}

TEST_F(nested, hole_in_the_guest_memfd_is_seen)
{
	struct userspace_mem_region *region = memslot2region(self->vm, KMA_SLOT);

	run_to(self->vcpu, 1);
	kvm_fallocate(region->region.guest_memfd, FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE,
		      0, PAGES * PAGE_SIZE);
	run_to(self->vcpu, 2);
	assert_seen(self->vm, 0, 0x1000, BIT(3) | BIT(6));
}

TEST_HARNESS_MAIN
