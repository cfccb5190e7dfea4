// SPDX-License-Identifier: GPL-2.0
/*
 * Restrictions and access tracking: what the guest has mapped is aged again and
 * again, which neither takes a mapping away nor gives a right back, and what the
 * guest does with the rights that are left is seen as an access.
 */
/* modes: npt=0 tdp_mmu=0 */
/* not with npt=0 tdp_mmu=0: protected */
#include "kvm_memattr_age.h"
#include "kvm_memattr_rwx_huge.h"
#include "kvm_memattr_rwx_log.h"

/* With these a page can still be mapped. */
static const u64 readable[] = { KMA_NX, KMA_NW | KMA_NX, KMA_NW };

FIXTURE(age) {
	struct rwx_guest g;
};

FIXTURE_VARIANT(age) {
	u32 type;
};

FIXTURE_VARIANT_ADD(age, default) {
	.type = KVM_X86_DEFAULT_VM,
};

FIXTURE_VARIANT_ADD(age, protected) {
	.type = KVM_X86_SW_PROTECTED_VM,
};

FIXTURE_SETUP(age)
{
	if (!(kvm_check_cap(KVM_CAP_VM_TYPES) & BIT(variant->type)))
		SKIP(return, "KVM has no VMs of that type here");

	rwx_huge_init(&self->g, variant->type, RWX_BLOCK, VM_MEM_SRC_ANONYMOUS_THP);
	TEST_ASSERT(kma_pfn(self->g.region->host_mem) % RWX_BLOCK == 0,
		    "the memory is not one huge page of the host's");
}

FIXTURE_TEARDOWN(age)
{
	if (self->g.vm)
		kvm_vm_free(self->g.vm);
}

/* All that is mapped stays so, and has not been accessed any more. */
static void age(struct rwx_guest *g)
{
	struct rwx_mapped was = rwx_mapped(g), is;

	kma_age(g->region->host_mem);
	TEST_ASSERT(kma_is_idle(g->region->host_mem), "an access is seen that nobody made");
	is = rwx_mapped(g);
	for (int level = PG_LEVEL_4K; level <= PG_LEVEL_1G; level++)
		TEST_ASSERT_EQ(is.nr[level], was.nr[level]);
}

/* The guest reads what it has mapped, and that is the one access since. */
static void assert_access_seen(struct rwx_guest *g, u64 page)
{
	age(g);
	rwx_allowed(g, RWX_READ, page);
	TEST_ASSERT(!kma_is_idle(g->region->host_mem), "the guest's access is not seen");
}

TEST_F(age, restricted_page_keeps_the_rights_that_are_left)
{
	struct rwx_guest *g = &self->g;

	for (int i = 0; i < ARRAY_SIZE(readable); i++) {
		rwx_set(g, 20, 1, readable[i]);
		rwx_allowed(g, RWX_READ, 20);
		rwx_allowed(g, RWX_WRITE, 21);
		assert_access_seen(g, 20);

		for (int round = 0; round < 2; round++) {
			age(g);
			rwx_check_all(g, 20, readable[i]);
			age(g);
			rwx_check_all(g, 21, 0);
		}
		rwx_set(g, 20, 1, 0);
		rwx_unmap(g);
	}
}

TEST_F(age, page_that_is_restricted_once_it_is_old_loses_the_right)
{
	struct rwx_guest *g = &self->g;

	for (int i = 0; i < ARRAY_SIZE(kma_restrictions); i++) {
		rwx_check_all(g, 20, 0);
		rwx_check_all(g, 21, 0);
		age(g);
		rwx_set(g, 20, 1, kma_restrictions[i]);
		rwx_check_all(g, 20, kma_restrictions[i]);
		age(g);
		rwx_check_all(g, 20, kma_restrictions[i]);
		rwx_check_all(g, 21, 0);

		age(g);
		rwx_set(g, 20, 1, 0);
		rwx_check_all(g, 20, 0);
		rwx_unmap(g);
	}
}

TEST_F(age, restricted_block_stays_one_page_with_fewer_rights)
{
	struct rwx_guest *g = &self->g;

	for (int i = 0; i < ARRAY_SIZE(readable); i++) {
		rwx_set(g, 0, RWX_BLOCK, readable[i]);
		RWX_ASSERT_MAPS(g, 5, PG_LEVEL_2M);
		assert_access_seen(g, 300);

		for (int op = 0; op < RWX_NR_OPS; op++) {
			u64 flag = rwx_denied_flag(readable[i], op);

			if (!flag)
				continue;
			age(g);
			rwx_denied(g, op, 300, flag);
			rwx_abandon(g);
		}
		RWX_ASSERT_BLOCKS(g, 1, 0);
		age(g);
		rwx_check_all(g, 300, readable[i]);
		rwx_set(g, 0, RWX_BLOCK, 0);
		rwx_unmap(g);
	}
}

/* Pages that are old and, for the log, write-protected are what that path is for. */
TEST_F(age, fast_page_fault_makes_no_restricted_page_writable)
{
	struct rwx_guest *g = &self->g;
	struct rwx_log log;
	u64 fast;

	rwx_log_init(&log, g, 0);
	rwx_log_set(&log, true);
	rwx_allowed(g, RWX_WRITE, 20);
	rwx_allowed(g, RWX_WRITE, 21);
	rwx_log_fetch(&log);
	rwx_set(g, 21, 1, KMA_NW);
	rwx_allowed(g, RWX_READ, 21);

	for (int round = 0; round < 3; round++) {
		age(g);
		fast = vcpu_get_stat(g->vcpu, pf_fast);
		rwx_allowed(g, RWX_WRITE, 20);
		TEST_ASSERT(!kvm_is_tdp_enabled() || vcpu_get_stat(g->vcpu, pf_fast) > fast,
			    "there was no fast page fault, which this is about");
		age(g);
		rwx_check_all(g, 21, KMA_NW);

		rwx_log_fetch(&log);
		rwx_log_assert(&log, 20, true);
		rwx_log_assert(&log, 21, false);
	}
	rwx_log_free(&log);
}

TEST_HARNESS_MAIN
