// SPDX-License-Identifier: GPL-2.0
/*
 * A guest_memfd that can be mapped backs the guest's shared accesses too. An
 * event on it zaps what the guest has mapped of it, whatever the attributes
 * say: a mapping that stays is a use of freed memory.
 */
#include "kvm_memattr_gmem.h"

FIXTURE(mapped) {
	struct kma_guest g;
	void *mem;
};

FIXTURE_VARIANT(mapped) {
	u32 type;
	u64 flags;
	/* The pages that are made shared, in place. */
	u64 shared;
};

FIXTURE_VARIANT_ADD(mapped, default_init_shared) {
	.type = KVM_X86_DEFAULT_VM,
	.flags = GUEST_MEMFD_FLAG_MMAP | GUEST_MEMFD_FLAG_INIT_SHARED,
};

FIXTURE_VARIANT_ADD(mapped, default_init_private) {
	.type = KVM_X86_DEFAULT_VM,
	.flags = GUEST_MEMFD_FLAG_MMAP,
};

FIXTURE_VARIANT_ADD(mapped, protected_init_private) {
	.type = KVM_X86_SW_PROTECTED_VM,
	.flags = GUEST_MEMFD_FLAG_MMAP,
};

FIXTURE_VARIANT_ADD(mapped, protected_mixed) {
	.type = KVM_X86_SW_PROTECTED_VM,
	.flags = GUEST_MEMFD_FLAG_MMAP,
	.shared = KMA_ODD,
};

FIXTURE_SETUP(mapped)
{
	if (variant->type == KVM_X86_SW_PROTECTED_VM)
		KMA_REQUIRE_PROTECTED_VMS();

	kma_guest_init(&self->g, variant->type, KVM_MEM_GUEST_MEMFD, variant->flags);
	self->mem = kvm_mmap(KMA_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED,
			     self->g.region->region.guest_memfd);
	for (u64 page = 0; page < KMA_PAGES; page++) {
		if (variant->shared & 1ull << page)
			GMEM_ASSERT_SET(self->g.region->region.guest_memfd, page * PAGE_SIZE,
					PAGE_SIZE, 0, GMEM_ZERO);
	}
	kma_write(&self->g, KMA_ALL, KMA_KIND_NEW);
	KMA_ASSERT_FAULTS(&self->g, 0, KMA_SEEN(.fresh = KMA_ALL));
}

FIXTURE_TEARDOWN(mapped)
{
	if (self->mem)
		kvm_munmap(self->mem, KMA_SIZE);
	kvm_vm_free(self->g.vm);
}

TEST_F(mapped, hole_drops_what_the_guest_has_mapped)
{
	vm_guest_mem_punch_hole(self->g.vm, self->g.gpa, KMA_SIZE);
	KMA_ASSERT_FAULTS(&self->g, KMA_PAGES, KMA_SEEN(.zero = KMA_ALL));
}

TEST_F(mapped, hole_leaves_the_pages_beside_it_mapped)
{
	vm_guest_mem_punch_hole(self->g.vm, self->g.gpa + 16 * PAGE_SIZE, 32 * PAGE_SIZE);
	KMA_ASSERT_FAULTS(&self->g, 0, KMA_SEEN(.fresh = ~KMA_MIDDLE));
	KMA_ASSERT_FAULTS(&self->g, 32, KMA_SEEN(.zero = KMA_MIDDLE));
}

TEST_F(mapped, release_drops_what_the_guest_has_mapped)
{
	struct kma_guest *g = &self->g;
	u64 mapped;

	kvm_munmap(self->mem, KMA_SIZE);
	self->mem = NULL;
	mapped = vm_get_stat(g->vm, pages_4k);
	kvm_close(g->region->region.guest_memfd);
	g->region->region.guest_memfd = -1;

	/* The vCPU doesn't get past the first page that it can be asked for. */
	TEST_ASSERT_EQ(mapped - vm_get_stat(g->vm, pages_4k), KMA_PAGES);
	kma_issue(g->vcpu, KMA_OP_READ, g->gpa, 1ull << 9, 0);
	kma_finish_in_fault(g->vcpu, EFAULT, g->gpa + 9 * PAGE_SIZE, 0);
}

TEST_F(mapped, unmapping_the_files_own_mapping_leaves_the_guest_alone)
{
	kvm_munmap(self->mem, KMA_SIZE);
	self->mem = NULL;
	KMA_ASSERT_FAULTS(&self->g, 0, KMA_SEEN(.fresh = KMA_ALL));
}

static sigjmp_buf poisoned;

static void on_sigbus(int sig)
{
	siglongjmp(poisoned, 1);
}

/* madvise() poisons the page, and then tells the caller who has it mapped. */
static void poison(void *page)
{
	struct sigaction catch = { .sa_handler = on_sigbus }, old;

	TEST_ASSERT(*(volatile u64 *)page, "nothing to poison");

	sigaction(SIGBUS, &catch, &old);
	if (!sigsetjmp(poisoned, 1))
		kvm_madvise(page, PAGE_SIZE, MADV_HWPOISON);
	sigaction(SIGBUS, &old, NULL);
}

TEST(memory_error_drops_the_page_and_no_other)
{
	const u64 bad = 5;
	struct kma_guest g;
	void *mem;

	/* Only what userspace can touch can be poisoned by it. */
	kma_guest_init(&g, KVM_X86_DEFAULT_VM, KVM_MEM_GUEST_MEMFD,
		       GUEST_MEMFD_FLAG_MMAP | GUEST_MEMFD_FLAG_INIT_SHARED);
	mem = kvm_mmap(KMA_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED,
		       g.region->region.guest_memfd);
	kma_write(&g, KMA_ALL, KMA_KIND_NEW);

	poison(mem + bad * PAGE_SIZE);

	KMA_ASSERT_FAULTS(&g, 0, KMA_SEEN(.fresh = ~(1ull << bad)));
	kma_issue(g.vcpu, KMA_OP_READ, g.gpa, 1ull << bad, 0);
	kma_finish_in_fault(g.vcpu, EHWPOISON, g.gpa + bad * PAGE_SIZE, 0);

	kvm_munmap(mem, KMA_SIZE);
	kvm_vm_free(g.vm);
}

TEST_HARNESS_MAIN
