// SPDX-License-Identifier: GPL-2.0
/*
 * The guest's own accesses to restricted pages: what each word denies, the exit
 * for it, and that the vCPU goes on when it is lifted. For pages that the guest
 * has used before and pages that it has not, in memory of 4 KiB, 2 MiB and 1 GiB
 * pages, on VM types with and without private memory.
 */
/* modes: npt=0 tdp_mmu=0 nx_huge_pages=force */
/* not with npt=0 tdp_mmu=0: protected_4k protected_2m */
#include "kvm_memattr_rwx_huge.h"

FIXTURE(access) {
	struct rwx_guest g;
};

FIXTURE_VARIANT(access) {
	u32 type;
	enum vm_mem_backing_src_type src;
	u64 nr_pages;
};

FIXTURE_VARIANT_ADD(access, default_4k) {
	.type = KVM_X86_DEFAULT_VM,
	.src = VM_MEM_SRC_ANONYMOUS,
	.nr_pages = 64,
};

FIXTURE_VARIANT_ADD(access, default_2m) {
	.type = KVM_X86_DEFAULT_VM,
	.src = VM_MEM_SRC_ANONYMOUS_THP,
	.nr_pages = 2 * RWX_BLOCK,
};

FIXTURE_VARIANT_ADD(access, default_1g) {
	.type = KVM_X86_DEFAULT_VM,
	.src = VM_MEM_SRC_ANONYMOUS_HUGETLB_1GB,
	.nr_pages = RWX_GIB,
};

FIXTURE_VARIANT_ADD(access, protected_4k) {
	.type = KVM_X86_SW_PROTECTED_VM,
	.src = VM_MEM_SRC_ANONYMOUS,
	.nr_pages = 64,
};

FIXTURE_VARIANT_ADD(access, protected_2m) {
	.type = KVM_X86_SW_PROTECTED_VM,
	.src = VM_MEM_SRC_ANONYMOUS_THP,
	.nr_pages = 2 * RWX_BLOCK,
};

FIXTURE_SETUP(access)
{
	if (!(kvm_check_cap(KVM_CAP_VM_TYPES) & BIT(variant->type)))
		SKIP(return, "KVM has no VMs of that type here");

	if (variant->src == VM_MEM_SRC_ANONYMOUS_HUGETLB_1GB)
		TEST_ASSERT_EQ(kma_giant_pages(1), 1);
	rwx_init(&self->g, variant->type, variant->nr_pages, variant->src);

	/* Until a page is restricted. In the guest's own tables all pages are small. */
	rwx_allowed(&self->g, RWX_READ, 0);
	if (kvm_is_tdp_enabled())
		RWX_ASSERT_BLOCKS(&self->g, variant->src == VM_MEM_SRC_ANONYMOUS_THP,
				  variant->src == VM_MEM_SRC_ANONYMOUS_HUGETLB_1GB);
}

FIXTURE_TEARDOWN(access)
{
	if (self->g.vm)
		kvm_vm_free(self->g.vm);
	if (variant->src == VM_MEM_SRC_ANONYMOUS_HUGETLB_1GB)
		kma_giant_pages(0);
}

/* Each word against each access, each on a page of its own. */
static void every_word(struct rwx_guest *g, u64 first, bool touched)
{
	u64 page = first;

	for (int i = 0; i < ARRAY_SIZE(kma_restrictions); i++) {
		for (int op = 0; op < RWX_NR_OPS; op++, page++) {
			if (touched)
				rwx_touch(g, page);
			rwx_set(g, page, 1, kma_restrictions[i]);
			rwx_check(g, op, page, kma_restrictions[i]);
		}
	}
}

TEST_F_TIMEOUT(access, each_word_denies_what_it_says_on_pages_never_used, 300)
{
	every_word(&self->g, 20, false);
}

TEST_F_TIMEOUT(access, each_word_denies_what_it_says_on_pages_used_before, 300)
{
	every_word(&self->g, 20, true);
}

TEST_F_TIMEOUT(access, all_accesses_are_told_apart_on_one_page, 300)
{
	struct rwx_guest *g = &self->g;

	for (int i = 0; i < ARRAY_SIZE(kma_restrictions); i++) {
		rwx_set(g, 7, 1, kma_restrictions[i]);
		for (int op = 0; op < RWX_NR_OPS; op++)
			rwx_check(g, op, 7, kma_restrictions[i]);
	}
	rwx_set(g, 7, 1, 0);
	rwx_touch(g, 7);
}

TEST_F_TIMEOUT(access, neighbours_of_a_restricted_page_are_not, 300)
{
	struct rwx_guest *g = &self->g;

	rwx_touch(g, 29);
	rwx_set(g, 30, 1, KMA_NO_ACCESS);
	rwx_touch(g, 29);
	rwx_touch(g, 31);
	rwx_denied(g, RWX_READ, 30, KVM_MEMORY_EXIT_FLAG_READ);
	rwx_set(g, 30, 1, 0);
	rwx_run(g->vcpu);
}

/* A fault maps what is around it, too: with the rights of each page. */
TEST_F_TIMEOUT(access, what_is_mapped_along_has_its_own_rights, 300)
{
	struct rwx_guest *g = &self->g;

	for (u64 page = 8; page < 16; page++)
		rwx_set(g, page, 1, page & 1 ? KMA_NW | KMA_NX : 0);
	rwx_touch(g, 8);
	for (u64 page = 9; page < 16; page++)
		for (int op = 0; op < RWX_NR_OPS; op++)
			rwx_check(g, op, page, page & 1 ? KMA_NW | KMA_NX : 0);
}

/* Denied writes leave no trace, others arrive. */
TEST_F_TIMEOUT(access, a_denied_write_is_not_made_until_allowed, 300)
{
	struct rwx_guest *g = &self->g;
	u64 was;

	*rwx_hva(g, 5) = was = 0x5eed;
	rwx_set(g, 5, 1, KMA_NW);
	rwx_denied(g, RWX_WRITE, 5, KVM_MEMORY_EXIT_FLAG_WRITE);
	TEST_ASSERT_EQ(READ_ONCE(*rwx_hva(g, 5)), was);
	rwx_set(g, 5, 1, 0);
	rwx_run(g->vcpu);
	TEST_ASSERT_EQ(READ_ONCE(*rwx_hva(g, 5)), rwx_word(rwx_gpa(g, 5)));
}

/* What the VMM does through its own mapping is its own business. */
TEST_F_TIMEOUT(access, the_vmm_is_not_restricted, 300)
{
	struct rwx_guest *g = &self->g;

	WRITE_ONCE(*rwx_hva(g, 5), 1);
	rwx_set(g, 5, 1, KMA_NO_ACCESS);
	rwx_denied(g, RWX_READ, 5, KVM_MEMORY_EXIT_FLAG_READ);
	TEST_ASSERT_EQ(READ_ONCE(*rwx_hva(g, 5)), 1);
	WRITE_ONCE(*rwx_hva(g, 5), rwx_word(rwx_gpa(g, 5)));

	/* Only then the guest reads what it expects, which it compares. */
	rwx_set(g, 5, 1, 0);
	rwx_run(g->vcpu);
}

/* Attributes belong to the gfn: a slot that comes later honours them. */
TEST_F_TIMEOUT(access, a_slot_created_later_honours_them, 300)
{
	struct rwx_guest *g = &self->g;

	vm_mem_region_delete(g->vm, KMA_SLOT);
	rwx_set(g, 33, 1, KMA_NW | KMA_NX);
	rwx_add_slot(g, variant->src, 0);
	for (int op = 0; op < RWX_NR_OPS; op++) {
		rwx_check(g, op, 33, KMA_NW | KMA_NX);
		rwx_check(g, op, 34, 0);
	}
}

static const char * const names[] = {
	"", "0x2 NW", "0x4 NX", "0x6 NW|NX", "0x7 NR|NW|NX",
};

TEST_F_TIMEOUT(access, each_word_is_stored_and_shown, 300)
{
	struct rwx_guest *g = &self->g;
	struct kma_view view = kma_view_of(g->vm);
	char want[128];

	for (int i = 1; i < ARRAY_SIZE(kma_restrictions); i++) {
		rwx_set(g, 3, 5, kma_restrictions[i]);
		snprintf(want, sizeof(want), "0x%016lx 0x5000 %s\n", rwx_gpa(g, 3), names[i]);
		kma_assert_runs(&view, want);
	}
	rwx_set(g, 3, 5, 0);
	kma_assert_runs(&view, "");
}

/* Nothing is there, so nothing can be denied: an access is one to a device. */
TEST_F_TIMEOUT(access, addresses_without_a_slot_are_not_restricted, 300)
{
	struct rwx_guest *g = &self->g;
	struct kvm_run *run = g->vcpu->run;

	vm_mem_region_delete(g->vm, KMA_SLOT);
	rwx_set(g, 9, 1, KMA_NO_ACCESS);
	rwx_issue(g, RWX_WRITE, 9);
	vcpu_run(g->vcpu);
	TEST_ASSERT_KVM_EXIT_REASON(g->vcpu, KVM_EXIT_MMIO);
	TEST_ASSERT_EQ(run->mmio.phys_addr, rwx_gpa(g, 9) + RWX_DATA);
	rwx_run(g->vcpu);

	/* And is one to memory once there is some. */
	rwx_add_slot(g, variant->src, 0);
	rwx_denied(g, RWX_WRITE, 9, KVM_MEMORY_EXIT_FLAG_WRITE);
	rwx_set(g, 9, 1, 0);
	rwx_run(g->vcpu);
}

/* Memory that the guest cannot write anyway: what denies it tells who asks. */
TEST_F_TIMEOUT(access, read_only_memory_is_restricted_all_the_same, 300)
{
	struct rwx_guest *g = &self->g;

	vm_mem_region_delete(g->vm, KMA_SLOT);
	rwx_add_slot(g, variant->src, KVM_MEM_READONLY);
	rwx_issue(g, RWX_WRITE, 11);
	vcpu_run(g->vcpu);
	TEST_ASSERT_KVM_EXIT_REASON(g->vcpu, KVM_EXIT_MMIO);
	rwx_run(g->vcpu);

	rwx_set(g, 11, 1, KMA_NW);
	rwx_denied(g, RWX_WRITE, 11, KVM_MEMORY_EXIT_FLAG_WRITE);
	rwx_set(g, 11, 1, 0);
	vcpu_run(g->vcpu);
	TEST_ASSERT_KVM_EXIT_REASON(g->vcpu, KVM_EXIT_MMIO);
	rwx_run(g->vcpu);
}

/* What the VM must not do as a whole is told from what one page denies. */
TEST_F_TIMEOUT(access, kinds_of_memory_and_restrictions_exclude_each_other, 300)
{
	struct rwx_guest *g = &self->g;

	rwx_set(g, 12, 1, KMA_NW);
	if (variant->type == KVM_X86_DEFAULT_VM) {
		/* There's one kind only, and asking for the other changes nothing. */
		KMA_ASSERT_ERRNO(EINVAL, __kma_set(g->vm, rwx_gpa(g, 12), PAGE_SIZE,
						   KMA_PRIVATE));
		rwx_check(g, RWX_WRITE, 12, KMA_NW);
		rwx_check(g, RWX_EXEC, 12, KMA_NW);
		return;
	}

	rwx_set(g, 12, 1, KMA_PRIVATE);
	rwx_issue(g, RWX_READ, 12);
	rwx_assert_exit(g->vcpu, rwx_gpa(g, 12), KVM_MEMORY_EXIT_FLAG_PRIVATE);
	rwx_set(g, 12, 1, KMA_NX);
	rwx_run(g->vcpu);
	rwx_check(g, RWX_EXEC, 12, KMA_NX);
}

TEST_HARNESS_MAIN
