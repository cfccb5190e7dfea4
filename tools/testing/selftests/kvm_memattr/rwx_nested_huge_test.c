// SPDX-License-Identifier: GPL-2.0
/*
 * Restrictions within the huge pages of a nested guest: what it is denied is exactly
 * what is restricted of the memory that its own memory is made of, whether it has
 * been mapped in one piece before or is only after.
 */
/* modes: npt=0 tdp_mmu=0 nx_huge_pages=force */
/* not with npt=0: npt protected_npt */
/* not with tdp_mmu=0: protected_npt */
#include "kvm_memattr_age.h"
#include "kvm_memattr_rwx_huge.h"
#include "svm_util.h"

/* Where L2 has the memory, by its own page tables' account. */
#define L2_GPA		(KMA_GPA + 4ull * SZ_1G)

static void l2_code(void)
{
	rwx_guest_code(0);
}

static void l1_code(struct svm_test_data *svm)
{
	generic_svm_setup(svm, l2_code);
	run_guest(svm->vmcb, svm->vmcb_gpa);
	GUEST_FAIL("L2 left with exit code %lx, info %lx %lx",
		   (u64)svm->vmcb->control.exit_code, (u64)svm->vmcb->control.exit_info_1,
		   (u64)svm->vmcb->control.exit_info_2);
}

FIXTURE(nested) {
	struct rwx_guest g;
};

FIXTURE_VARIANT(nested) {
	u32 type;
	bool npt;
};

FIXTURE_VARIANT_ADD(nested, npt) {
	.type = KVM_X86_DEFAULT_VM,
	.npt = true,
};

FIXTURE_VARIANT_ADD(nested, shadow) {
	.type = KVM_X86_DEFAULT_VM,
};

FIXTURE_VARIANT_ADD(nested, protected_npt) {
	.type = KVM_X86_SW_PROTECTED_VM,
	.npt = true,
};

static void map_for_l2(struct rwx_guest *g, bool npt)
{
	u64 size = g->nr_pages * PAGE_SIZE;

	if (!npt) {
		virt_map_level(g->vm, g->gpa, g->gpa, size, PG_LEVEL_2M);
		return;
	}

	virt_map_level(g->vm, g->gpa, L2_GPA, size, PG_LEVEL_2M);
	tdp_identity_map_default_memslots(g->vm);
	for (u64 at = 0; at < size; at += PG_SIZE_2M)
		__virt_pg_map(g->vm, &g->vm->stage2_mmu, L2_GPA + at, g->gpa + at, PG_LEVEL_2M);
	/* Which is an address of L2's, and none of the VM's memory. */
	kma_set(g->vm, L2_GPA, size, KMA_NO_ACCESS);
}

FIXTURE_SETUP(nested)
{
	struct rwx_guest *g = &self->g;
	struct svm_test_data *svm;
	gva_t svm_gva;

	TEST_REQUIRE(kvm_cpu_has(X86_FEATURE_SVM));
	if (!(kvm_check_cap(KVM_CAP_VM_TYPES) & BIT(variant->type)))
		SKIP(return, "KVM has no VMs of that type here");
	if (variant->npt && !kvm_cpu_has_npt())
		SKIP(return, "KVM offers no nested page tables to guests here");

	rwx_create(g, variant->type, 2 * RWX_BLOCK, VM_MEM_SRC_ANONYMOUS_THP);
	if (variant->npt)
		vm_enable_tdp(g->vm);
	svm = vcpu_alloc_svm(g->vm, &svm_gva);
	vcpu_args_set(g->vcpu, 1, svm_gva);
	vcpu_arch_set_entry_point(g->vcpu, l1_code);
	map_for_l2(g, variant->npt);

	/* L2 runs, and will be put back to where it has begun. */
	rwx_run(g->vcpu);
	vcpu_regs_get(g->vcpu, &rwx_entry);
	rwx_entry.rip = (u64)l2_code;
	rwx_entry.rsp = (u64)svm->stack;
	rwx_use_all_but_memory(g);
}

FIXTURE_TEARDOWN(nested)
{
	if (self->g.vm)
		kvm_vm_free(self->g.vm);
}

/* Of page 100, with all that could have been mapped along with it. */
static void assert_binds_one_page(struct rwx_guest *g, u64 word)
{
	rwx_check_all(g, 100, word);
	rwx_check_all(g, 99, 0);
	rwx_check_all(g, 101, 0);
	rwx_check_all(g, 0, 0);
	rwx_check_all(g, RWX_BLOCK - 1, 0);
	rwx_check_all(g, RWX_BLOCK + 100, 0);
	/* As all of that is mapped now. */
	rwx_check_all(g, 100, word);
}

/* Those first after which there still are huge pages, see rwx_executed(). */
static const u64 words[] = { KMA_NX, KMA_NW | KMA_NX, KMA_NO_ACCESS, KMA_NW };

TEST_F(nested, page_of_a_mapped_block_is_restricted_and_no_other)
{
	struct rwx_guest *g = &self->g;

	for (int i = 0; i < ARRAY_SIZE(words); i++) {
		RWX_ASSERT_MAPS(g, 100, PG_LEVEL_2M);
		RWX_ASSERT_MAPS(g, RWX_BLOCK, PG_LEVEL_2M);
		rwx_allowed(g, RWX_WRITE, 100);
		rwx_set(g, 100, 1, words[i]);
		RWX_ASSERT_BLOCKS(g, 1, 0);
		RWX_ASSERT_MAPS(g, 99, PG_LEVEL_4K);
		assert_binds_one_page(g, words[i]);

		rwx_set(g, 100, 1, 0);
		assert_binds_one_page(g, 0);
		rwx_unmap(g);
	}
}

TEST_F(nested, page_of_a_block_that_is_mapped_later_is_restricted_and_no_other)
{
	struct rwx_guest *g = &self->g;

	for (int i = 0; i < ARRAY_SIZE(words); i++) {
		rwx_set(g, 100, 1, words[i]);
		RWX_ASSERT_MAPS(g, 101, PG_LEVEL_4K);
		RWX_ASSERT_MAPS(g, RWX_BLOCK, PG_LEVEL_2M);
		assert_binds_one_page(g, words[i]);

		rwx_set(g, 100, 1, 0);
		rwx_unmap(g);
		RWX_ASSERT_MAPS(g, 101, PG_LEVEL_2M);
		rwx_unmap(g);
	}
}

TEST_F(nested, restricted_block_is_one_page_with_fewer_rights)
{
	struct rwx_guest *g = &self->g;

	for (int i = 0; i < ARRAY_SIZE(words); i++) {
		rwx_set(g, 0, RWX_BLOCK, words[i]);
		if (!(words[i] & KMA_NR))
			RWX_ASSERT_MAPS(g, 5, PG_LEVEL_2M);
		rwx_check_all(g, 0, words[i]);
		rwx_check_all(g, RWX_BLOCK - 1, words[i]);
		rwx_check_all(g, RWX_BLOCK, 0);

		rwx_set(g, 0, RWX_BLOCK, 0);
		rwx_unmap(g);
	}
}

/* Nobody unmaps anything here but the grant itself. */
TEST_F(nested, granted_page_becomes_part_of_a_huge_page_again)
{
	struct rwx_guest *g = &self->g;

	for (int i = 0; i < ARRAY_SIZE(words); i++) {
		rwx_set(g, 100, 1, words[i]);
		rwx_allowed(g, RWX_READ, 99);
		rwx_allowed(g, RWX_READ, 101);
		rwx_set(g, 100, 1, 0);
		RWX_ASSERT_MAPS(g, 100, PG_LEVEL_2M);
		assert_binds_one_page(g, 0);
		rwx_unmap(g);
	}
}

TEST_F(nested, ageing_restores_no_right)
{
	struct rwx_guest *g = &self->g;

	for (int i = 0; i < ARRAY_SIZE(words); i++) {
		rwx_allowed(g, RWX_WRITE, 101);
		rwx_set(g, 100, 1, words[i]);
		rwx_check_all(g, 100, words[i]);
		rwx_allowed(g, RWX_WRITE, 101);

		kma_age(g->region->host_mem);
		rwx_check_all(g, 100, words[i]);
		rwx_check_all(g, 101, 0);
		rwx_set(g, 100, 1, 0);
		rwx_unmap(g);
	}
}

TEST_HARNESS_MAIN
