// SPDX-License-Identifier: GPL-2.0
/*
 * KVM_PRE_FAULT_MEMORY over restricted pages: it maps them with the rights that
 * are left, and fails where there are none, which changes nothing.
 */
/* modes: tdp_mmu=0 */
/* not with tdp_mmu=0: protected */
#include "kvm_memattr_rwx_huge.h"

FIXTURE(prefault) {
	struct rwx_guest g;
};

FIXTURE_VARIANT(prefault) {
	u32 type;
};

FIXTURE_VARIANT_ADD(prefault, default) {
	.type = KVM_X86_DEFAULT_VM,
};

FIXTURE_VARIANT_ADD(prefault, protected) {
	.type = KVM_X86_SW_PROTECTED_VM,
};

FIXTURE_SETUP(prefault)
{
	TEST_REQUIRE(kvm_has_cap(KVM_CAP_PRE_FAULT_MEMORY));
	if (!(kvm_check_cap(KVM_CAP_VM_TYPES) & BIT(variant->type)))
		SKIP(return, "KVM has no VMs of that type here");

	rwx_huge_init(&self->g, variant->type, 2 * RWX_BLOCK, VM_MEM_SRC_ANONYMOUS_THP);
}

FIXTURE_TEARDOWN(prefault)
{
	if (self->g.vm)
		kvm_vm_free(self->g.vm);
}

/* What is left to do after one call, which does all that it can. */
static int __prefault(struct rwx_guest *g, struct kvm_pre_fault_memory *range)
{
	int ret;

	do {
		ret = __vcpu_ioctl(g->vcpu, KVM_PRE_FAULT_MEMORY, range);
	} while (ret && (errno == EINTR || errno == EAGAIN));
	return ret;
}

static void prefault(struct rwx_guest *g, u64 first, u64 nr)
{
	struct kvm_pre_fault_memory range = {
		.gpa = rwx_gpa(g, first),
		.size = nr * PAGE_SIZE,
	};
	int ret = __prefault(g, &range);

	TEST_ASSERT(!ret && !range.size,
		    "rc %d errno %d, not done from page 0x%llx on, 0x%llx bytes", ret, errno,
		    range.gpa, range.size);
}

static const u64 readable[] = { 0, KMA_NW, KMA_NX, KMA_NW | KMA_NX };

/* Allowed accesses don't fault, others exit. */
static void assert_prefaulted(struct rwx_guest *g, u64 page, u64 word)
{
	for (int op = 0; op < RWX_NR_OPS; op++) {
		u64 taken = vcpu_get_stat(g->vcpu, pf_taken);

		if (!rwx_denied_flag(word, op)) {
			rwx_allowed(g, op, page);
			TEST_ASSERT(vcpu_get_stat(g->vcpu, pf_taken) == taken,
				    "word %lx: the guest's %s faulted", word, rwx_op_names[op]);
			continue;
		}
		rwx_denied(g, op, page, rwx_denied_flag(word, op));
		rwx_abandon(g);
	}
}

TEST_F(prefault, pages_are_mapped_with_the_rights_that_are_left)
{
	struct rwx_guest *g = &self->g;

	for (u64 page = 8; page < 24; page++)
		rwx_set(g, page, 1, readable[page % 4]);
	prefault(g, 8, 16);
	for (u64 page = 8; page < 24; page++)
		assert_prefaulted(g, page, readable[page % 4]);
}

TEST_F(prefault, restricted_block_is_mapped_as_one_page)
{
	struct rwx_guest *g = &self->g;

	for (int i = 0; i < ARRAY_SIZE(readable); i++) {
		u64 blocks = vm_get_stat(g->vm, pages_2m);

		rwx_set(g, RWX_BLOCK, RWX_BLOCK, readable[i]);
		prefault(g, RWX_BLOCK + 3, 2);
		TEST_ASSERT_EQ(vm_get_stat(g->vm, pages_2m), blocks + 1);
		assert_prefaulted(g, RWX_BLOCK + 300, readable[i]);
		rwx_unmap(g);
	}
}

/* A right that is granted later is there with the guest's next access. */
TEST_F(prefault, grant_after_it_is_seen)
{
	struct rwx_guest *g = &self->g;

	rwx_set(g, 8, 2, KMA_NW | KMA_NX);
	prefault(g, 8, 2);
	rwx_set(g, 8, 1, 0);
	for (int op = 0; op < RWX_NR_OPS; op++)
		rwx_allowed(g, op, 8);
	assert_prefaulted(g, 9, KMA_NW | KMA_NX);
}

TEST_F(prefault, restriction_after_it_is_seen)
{
	struct rwx_guest *g = &self->g;

	prefault(g, 0, 2 * RWX_BLOCK);
	rwx_set(g, 8, 1, KMA_NW);
	rwx_set(g, 9, 1, KMA_NO_ACCESS);
	rwx_denied(g, RWX_WRITE, 8, KVM_MEMORY_EXIT_FLAG_WRITE);
	rwx_abandon(g);
	rwx_denied(g, RWX_READ, 9, KVM_MEMORY_EXIT_FLAG_READ);
}

TEST_F(prefault, page_without_access_is_efault_and_nothing_changes)
{
	struct rwx_guest *g = &self->g;
	struct kvm_pre_fault_memory range = {
		.gpa = rwx_gpa(g, 12),
		.size = 4 * PAGE_SIZE,
	}, want = range;
	struct rwx_mapped was, is;

	rwx_set(g, 12, 1, KMA_NO_ACCESS);
	was = rwx_mapped(g);
	KMA_ASSERT_ERRNO(EFAULT, __prefault(g, &range));
	TEST_ASSERT(!memcmp(&range, &want, sizeof(range)), "the range was written");
	is = rwx_mapped(g);
	TEST_ASSERT(!memcmp(&is, &was, sizeof(is)), "something was mapped");

	/* It is no exit of the vCPU's, neither now nor later. */
	rwx_allowed(g, RWX_READ, 13);
	rwx_denied(g, RWX_READ, 12, KVM_MEMORY_EXIT_FLAG_READ);
	rwx_set(g, 12, 1, 0);
	rwx_run(g->vcpu);
	prefault(g, 12, 4);
}

TEST_F(prefault, it_stops_before_a_page_without_access)
{
	struct rwx_guest *g = &self->g;
	struct kvm_pre_fault_memory range = {
		.gpa = rwx_gpa(g, 8),
		.size = 8 * PAGE_SIZE,
	};

	rwx_set(g, 12, 1, KMA_NO_ACCESS);
	TEST_ASSERT(!__prefault(g, &range), "errno %d (%s)", errno, strerror(errno));
	TEST_ASSERT_EQ(range.gpa, rwx_gpa(g, 12));
	TEST_ASSERT_EQ(range.size, 4 * PAGE_SIZE);
	KMA_ASSERT_ERRNO(EFAULT, __prefault(g, &range));
	TEST_ASSERT_EQ(range.gpa, rwx_gpa(g, 12));
	TEST_ASSERT_EQ(range.size, 4 * PAGE_SIZE);
	assert_prefaulted(g, 11, 0);
}

TEST_HARNESS_MAIN
