// SPDX-License-Identifier: GPL-2.0
/*
 * Restrictions and huge pages: a block is mapped as one page where all of it has
 * the same attributes, with the rights that these leave, and only there. Splitting
 * a block, by a fault or for dirty logging, restores no right, nor does anything
 * that makes pages writable or whole again later.
 */
/* modes: npt=0 tdp_mmu=0 nx_huge_pages=force */
/* not with npt=0 tdp_mmu=0: protected protected_manual protected_ring */
#include "kvm_memattr_rwx_huge.h"
#include "kvm_memattr_rwx_log.h"

struct memory {
	struct rwx_guest g;
	struct kma_view view;
	enum vm_mem_backing_src_type src;
	int max_level;
};

static void memory_init(struct memory *self, u32 type, u64 nr_pages,
			enum vm_mem_backing_src_type src)
{
	rwx_huge_init(&self->g, type, nr_pages, src);
	self->view = kma_view_of(self->g.vm);
	self->src = src;
	self->max_level = nr_pages < RWX_GIB ? PG_LEVEL_2M : PG_LEVEL_1G;
}

/*
 * The words with which a page can still be mapped. Those that deny execution are
 * first: once the guest executes something, nx_huge_pages leaves no huge page there.
 */
static const u64 readable[] = { KMA_NX, KMA_NW | KMA_NX, KMA_NW };

#define for_each_word(_word)							\
	for (int __i = 0; __i < ARRAY_SIZE(readable) && ((_word) = readable[__i], true); __i++)

/* All of the memory that the variant has one page for. */
#define WHOLE(_g)	((_g)->nr_pages < RWX_GIB ? RWX_BLOCK : RWX_GIB)

#define ZAPPED()	kma_stat(&self->view, "pages_zapped")

static void restricted_page_splits_what_has_it_and_no_more(struct memory *self)
{
	struct rwx_guest *g = &self->g;
	u64 word;

	for_each_word(word) {
		RWX_ASSERT_MAPS(g, 100, self->max_level);
		rwx_set(g, 100, 1, word);
		RWX_ASSERT_BLOCKS(g, 0, 0);

		RWX_ASSERT_MAPS(g, 101, PG_LEVEL_4K);
		RWX_ASSERT_MAPS(g, RWX_BLOCK + 1, PG_LEVEL_2M);
		rwx_check_all(g, 100, word);
		rwx_check_all(g, 99, 0);
		rwx_check_all(g, 101, 0);

		rwx_set(g, 100, 1, 0);
		rwx_unmap(g);
	}
}

static void no_access_in_a_block_leaves_the_rest_of_it(struct memory *self)
{
	struct rwx_guest *g = &self->g;

	RWX_ASSERT_MAPS(g, 0, self->max_level);
	rwx_set(g, 100, 1, KMA_NO_ACCESS);
	rwx_check_all(g, 100, KMA_NO_ACCESS);
	rwx_check_all(g, 99, 0);
	rwx_check_all(g, 101, 0);

	rwx_set(g, 100, 1, 0);
	rwx_unmap(g);
	RWX_ASSERT_MAPS(g, 100, self->max_level);
}

static void range_across_two_blocks_splits_both(struct memory *self)
{
	struct rwx_guest *g = &self->g;
	u64 word;

	for_each_word(word) {
		rwx_allowed(g, RWX_READ, 0);
		rwx_allowed(g, RWX_READ, RWX_BLOCK);
		rwx_set(g, RWX_BLOCK - 1, 2, word);
		RWX_ASSERT_BLOCKS(g, 0, 0);

		RWX_ASSERT_MAPS(g, 0, PG_LEVEL_4K);
		RWX_ASSERT_MAPS(g, 2 * RWX_BLOCK - 1, PG_LEVEL_4K);
		rwx_check_all(g, RWX_BLOCK - 2, 0);
		rwx_check_all(g, RWX_BLOCK - 1, word);
		rwx_check_all(g, RWX_BLOCK, word);
		rwx_check_all(g, RWX_BLOCK + 1, 0);

		/* The second block is whole again, the first isn't. */
		rwx_set(g, RWX_BLOCK, 1, 0);
		RWX_ASSERT_MAPS(g, RWX_BLOCK, PG_LEVEL_2M);
		rwx_check_all(g, RWX_BLOCK - 1, word);

		rwx_set(g, RWX_BLOCK - 1, 1, 0);
		RWX_ASSERT_MAPS(g, RWX_BLOCK - 1, self->max_level);

		/* Or both at once, while something beyond forbids a page of 1 GiB. */
		rwx_set(g, g->nr_pages, 1, KMA_NW);
		rwx_set(g, RWX_BLOCK - 1, 2, word);
		rwx_allowed(g, RWX_READ, RWX_BLOCK - 1);
		rwx_allowed(g, RWX_READ, RWX_BLOCK);
		rwx_set(g, RWX_BLOCK - 1, 2, 0);
		RWX_ASSERT_MAPS(g, RWX_BLOCK - 1, self->max_level);
		if (self->max_level == PG_LEVEL_2M)
			RWX_ASSERT_MAPS(g, RWX_BLOCK, PG_LEVEL_2M);
		rwx_set(g, g->nr_pages, 1, 0);
		rwx_unmap(g);
	}
}

static void restricted_block_is_one_page_with_fewer_rights(struct memory *self)
{
	struct rwx_guest *g = &self->g;
	u64 word;

	for_each_word(word) {
		rwx_set(g, 0, WHOLE(g), word);
		RWX_ASSERT_MAPS(g, 5, self->max_level);
		for (int op = 0; op < RWX_NR_OPS; op++) {
			if (!rwx_denied_flag(word, op))
				continue;
			rwx_denied(g, op, 300, rwx_denied_flag(word, op));
			rwx_abandon(g);
		}
		/* A denied access is not a reason to take it apart. */
		RWX_ASSERT_BLOCKS(g, self->max_level == PG_LEVEL_2M,
				  self->max_level == PG_LEVEL_1G);
		rwx_check_all(g, 300, word);

		rwx_set(g, 0, WHOLE(g), 0);
		rwx_unmap(g);
	}
}

/* One 2 MiB block of a 1 GiB page. */
static void restricted_block_of_a_larger_page_is_one_page(struct memory *self)
{
	struct rwx_guest *g = &self->g;
	u64 word;

	for_each_word(word) {
		rwx_allowed(g, RWX_READ, 0);
		rwx_set(g, RWX_BLOCK, RWX_BLOCK, word);
		RWX_ASSERT_MAPS(g, RWX_BLOCK + 7, PG_LEVEL_2M);
		rwx_check_all(g, RWX_BLOCK + 8, word);
		rwx_check_all(g, 7, 0);

		rwx_set(g, RWX_BLOCK, RWX_BLOCK, 0);
		rwx_unmap(g);
	}
}

/* Nobody unmaps anything here but the grant itself. */
static void granted_page_becomes_part_of_a_huge_page_again(struct memory *self)
{
	struct rwx_guest *g = &self->g;
	u64 word, zapped;

	for_each_word(word) {
		rwx_set(g, 100, 1, word);
		rwx_allowed(g, RWX_READ, 100);
		rwx_allowed(g, RWX_READ, 101);

		zapped = ZAPPED();
		rwx_set(g, 100, 1, 0);
		TEST_ASSERT_EQ(ZAPPED() - zapped, 1);
		RWX_ASSERT_MAPS(g, 100, self->max_level);
		rwx_allowed(g, RWX_WRITE, 100);
		rwx_allowed(g, RWX_WRITE, 101);
		rwx_check_all(g, 100, 0);
		rwx_unmap(g);
	}
}

static void grant_without_a_larger_page_zaps_nothing(struct memory *self)
{
	struct rwx_guest *g = &self->g;
	u64 word, zapped;

	for_each_word(word) {
		struct rwx_mapped mapped;

		rwx_set(g, 100, 1, word);
		rwx_set(g, 102, 1, word);
		rwx_allowed(g, RWX_READ, 100);
		rwx_allowed(g, RWX_READ, 102);

		zapped = ZAPPED();
		mapped = rwx_mapped(g);
		rwx_set(g, 100, 1, 0);
		TEST_ASSERT_EQ(ZAPPED(), zapped);
		TEST_ASSERT_EQ(rwx_mapped(g).nr[PG_LEVEL_4K], mapped.nr[PG_LEVEL_4K]);
		rwx_check_all(g, 100, 0);
		rwx_check_all(g, 102, word);

		rwx_set(g, 102, 1, 0);
		rwx_unmap(g);
	}
}

/* It has been a huge page all the time: it only gains rights, in place. */
static void granted_block_zaps_nothing_and_can_be_used(struct memory *self)
{
	struct rwx_guest *g = &self->g;
	u64 word, zapped;

	for_each_word(word) {
		rwx_set(g, 0, WHOLE(g), word);
		RWX_ASSERT_MAPS(g, 5, self->max_level);

		/* Without a slot there, but what forbids a page of 1 GiB is not asked for. */
		rwx_set(g, g->nr_pages, 1, KMA_NW);
		zapped = ZAPPED();
		rwx_set(g, 0, WHOLE(g), 0);
		TEST_ASSERT_EQ(ZAPPED(), zapped);
		rwx_allowed(g, RWX_WRITE, 6);
		RWX_ASSERT_BLOCKS(g, self->max_level == PG_LEVEL_2M,
				  self->max_level == PG_LEVEL_1G);
		rwx_check_all(g, 7, 0);
		rwx_unmap(g);
	}
}

/* A page of a block that is mapped as one gains rights, the others gain none. */
static void grant_within_a_restricted_block_is_for_that_page_only(struct memory *self)
{
	struct rwx_guest *g = &self->g;
	u64 word, zapped;

	for_each_word(word) {
		rwx_set(g, 0, WHOLE(g), word);
		RWX_ASSERT_MAPS(g, 5, self->max_level);

		zapped = ZAPPED();
		rwx_set(g, 7, 1, 0);
		TEST_ASSERT_EQ(ZAPPED(), zapped);
		rwx_check_all(g, 6, word);
		rwx_check_all(g, 7, 0);
		rwx_check_all(g, 8, word);
		rwx_check_all(g, 300, word);

		rwx_set(g, 0, WHOLE(g), 0);
		rwx_unmap(g);
	}
}

/* From one restriction to another: what one grants and the other takes away. */
static void exchanged_restrictions_are_both_in_force(struct memory *self)
{
	struct rwx_guest *g = &self->g;

	rwx_set(g, 0, WHOLE(g), KMA_NW);
	RWX_ASSERT_MAPS(g, 5, self->max_level);
	rwx_set(g, 0, WHOLE(g), KMA_NX);
	rwx_check_all(g, 5, KMA_NX);
	rwx_set(g, 9, 1, KMA_NW);
	rwx_check_all(g, 9, KMA_NW);
	rwx_check_all(g, 10, KMA_NX);
}

static void slot_created_later_has_huge_pages_where_uniform(struct memory *self)
{
	struct rwx_guest *g = &self->g;
	u64 word;

	for_each_word(word) {
		vm_mem_region_delete(g->vm, KMA_SLOT);
		rwx_set(g, 0, g->nr_pages, 0);
		rwx_set(g, 100, 1, word);
		rwx_set(g, RWX_BLOCK, RWX_BLOCK, word);
		rwx_add_slot(g, self->src, 0);

		RWX_ASSERT_MAPS(g, 99, PG_LEVEL_4K);
		RWX_ASSERT_MAPS(g, RWX_BLOCK + 9, PG_LEVEL_2M);
		rwx_check_all(g, 99, 0);
		rwx_check_all(g, 100, word);
		rwx_check_all(g, RWX_BLOCK + 10, word);
	}
}

FIXTURE(huge) {
	struct memory m;
};

FIXTURE_VARIANT(huge) {
	u32 type;
};

FIXTURE_VARIANT_ADD(huge, default) {
	.type = KVM_X86_DEFAULT_VM,
};

FIXTURE_VARIANT_ADD(huge, protected) {
	.type = KVM_X86_SW_PROTECTED_VM,
};

FIXTURE_SETUP(huge)
{
	if (!(kvm_check_cap(KVM_CAP_VM_TYPES) & BIT(variant->type)))
		SKIP(return, "KVM has no VMs of that type here");

	memory_init(&self->m, variant->type, 2 * RWX_BLOCK, VM_MEM_SRC_ANONYMOUS_THP);
}

FIXTURE_TEARDOWN(huge)
{
	if (self->m.g.vm)
		kvm_vm_free(self->m.g.vm);
}

TEST_F(huge, restricted_page_splits_what_has_it_and_no_more)
{
	restricted_page_splits_what_has_it_and_no_more(&self->m);
}

TEST_F(huge, no_access_in_a_block_leaves_the_rest_of_it)
{
	no_access_in_a_block_leaves_the_rest_of_it(&self->m);
}

TEST_F(huge, range_across_two_blocks_splits_both)
{
	range_across_two_blocks_splits_both(&self->m);
}

TEST_F(huge, restricted_block_is_one_page_with_fewer_rights)
{
	restricted_block_is_one_page_with_fewer_rights(&self->m);
}

TEST_F(huge, restricted_block_of_a_larger_page_is_one_page)
{
	restricted_block_of_a_larger_page_is_one_page(&self->m);
}

TEST_F(huge, granted_page_becomes_part_of_a_huge_page_again)
{
	granted_page_becomes_part_of_a_huge_page_again(&self->m);
}

TEST_F(huge, grant_without_a_larger_page_zaps_nothing)
{
	grant_without_a_larger_page_zaps_nothing(&self->m);
}

TEST_F(huge, granted_block_zaps_nothing_and_can_be_used)
{
	granted_block_zaps_nothing_and_can_be_used(&self->m);
}

TEST_F(huge, grant_within_a_restricted_block_is_for_that_page_only)
{
	grant_within_a_restricted_block_is_for_that_page_only(&self->m);
}

TEST_F(huge, exchanged_restrictions_are_both_in_force)
{
	exchanged_restrictions_are_both_in_force(&self->m);
}

TEST_F(huge, slot_created_later_has_huge_pages_where_uniform)
{
	slot_created_later_has_huge_pages_where_uniform(&self->m);
}

/* Logging of dirty pages, with each way in which it can begin and go on. */
FIXTURE(dirty) {
	struct rwx_guest g;
	struct rwx_log log;
};

FIXTURE_VARIANT(dirty) {
	u32 type;
	u64 manual;
	u32 ring;
};

FIXTURE_VARIANT_ADD(dirty, plain) {
	.type = KVM_X86_DEFAULT_VM,
};

FIXTURE_VARIANT_ADD(dirty, manual) {
	.type = KVM_X86_DEFAULT_VM,
	.manual = KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE,
};

FIXTURE_VARIANT_ADD(dirty, initially_set) {
	.type = KVM_X86_DEFAULT_VM,
	.manual = KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE | KVM_DIRTY_LOG_INITIALLY_SET,
};

FIXTURE_VARIANT_ADD(dirty, protected_manual) {
	.type = KVM_X86_SW_PROTECTED_VM,
	.manual = KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE,
};

FIXTURE_VARIANT_ADD(dirty, ring) {
	.type = KVM_X86_DEFAULT_VM,
	.ring = RWX_RING,
};

FIXTURE_VARIANT_ADD(dirty, protected_ring) {
	.type = KVM_X86_SW_PROTECTED_VM,
	.ring = RWX_RING,
};

FIXTURE_SETUP(dirty)
{
	if (!(kvm_check_cap(KVM_CAP_VM_TYPES) & BIT(variant->type)))
		SKIP(return, "KVM has no VMs of that type here");

	self->g.ring = variant->ring;
	rwx_huge_init(&self->g, variant->type, 2 * RWX_BLOCK, VM_MEM_SRC_ANONYMOUS_THP);
	rwx_log_init(&self->log, &self->g, variant->manual);
}

FIXTURE_TEARDOWN(dirty)
{
	if (self->g.vm)
		kvm_vm_free(self->g.vm);
	rwx_log_free(&self->log);
}

static void split_for_the_log(struct rwx_guest *g, struct rwx_log *log)
{
	u64 word;

	for_each_word(word) {
		rwx_set(g, 0, WHOLE(g), word);
		RWX_ASSERT_MAPS(g, 5, g->nr_pages < RWX_GIB ? PG_LEVEL_2M : PG_LEVEL_1G);
		TEST_ASSERT(!rwx_levels_unknown || !(word & KMA_NX),
			    "something was executed, so that there may be no huge page");
		rwx_log_begin(log);
		/* All of it is mapped, page by page, before the guest goes on. */
		if (rwx_tdp_mmu()) {
			RWX_ASSERT_BLOCKS(g, 0, 0);
			TEST_ASSERT(rwx_mapped(g).nr[PG_LEVEL_4K] >= WHOLE(g) ||
				    rwx_levels_unknown, "the pages are gone rather than split");
		}
		rwx_check_all(g, 5, word);
		rwx_check_all(g, 300, word);
		rwx_log_set(log, false);
		rwx_check_all(g, 5, word);
		rwx_check_all(g, 301, word);
		rwx_set(g, 0, WHOLE(g), 0);
		rwx_unmap(g);
	}
}

TEST_F(dirty, splitting_for_the_log_restores_no_right)
{
	split_for_the_log(&self->g, &self->log);
}

TEST_F(dirty, write_protected_page_that_is_restricted_stays_so)
{
	struct rwx_guest *g = &self->g;
	struct rwx_log *log = &self->log;
	u64 fast;

	rwx_allowed(g, RWX_WRITE, 20);
	rwx_allowed(g, RWX_WRITE, 21);
	rwx_log_begin(log);
	/* Both are mapped by a write, so that KVM may make them writable later. */
	rwx_allowed(g, RWX_WRITE, 20);
	rwx_allowed(g, RWX_WRITE, 21);
	rwx_log_fetch(log);

	rwx_set(g, 21, 1, KMA_NW);
	fast = vcpu_get_stat(g->vcpu, pf_fast);
	rwx_allowed(g, RWX_WRITE, 20);
	TEST_ASSERT(!kvm_is_tdp_enabled() || vcpu_get_stat(g->vcpu, pf_fast) > fast,
		    "there was no fast page fault, which this is about");
	rwx_check_all(g, 21, KMA_NW);

	/* And mapped without W, then protected. */
	rwx_log_fetch(log);
	rwx_check_all(g, 21, KMA_NW);
	rwx_log_assert(log, 20, 1);
	rwx_log_assert(log, 21, 0);
}

TEST_F(dirty, only_pages_that_were_written_are_dirty)
{
	struct rwx_guest *g = &self->g;
	struct rwx_log *log = &self->log;

	rwx_set(g, 30, 1, KMA_NW);
	rwx_set(g, 31, 1, KMA_NX);
	rwx_set(g, 33, 1, KMA_NO_ACCESS);
	for (u64 page = 28; page < 33; page++)
		rwx_allowed(g, RWX_READ, page);
	rwx_log_begin(log);
	for (u64 page = 28; page < 33; page++)
		rwx_allowed(g, RWX_WRITE, page == 30 ? 29 : page);
	rwx_log_fetch(log);
	rwx_log_fetch(log);
	for (u64 page = 28; page < 34; page++)
		rwx_log_assert(log, page, 0);

	rwx_denied(g, RWX_WRITE, 30, KVM_MEMORY_EXIT_FLAG_WRITE);
	rwx_log_fetch(log);
	rwx_log_assert(log, 30, 0);
	rwx_set(g, 30, 1, 0);
	rwx_run(g->vcpu);
	rwx_allowed(g, RWX_WRITE, 31);
	rwx_denied(g, RWX_WRITE, 33, KVM_MEMORY_EXIT_FLAG_WRITE);
	rwx_abandon(g);
	rwx_allowed(g, RWX_READ, 32);
	rwx_log_fetch(log);
	rwx_log_assert(log, 30, 1);
	rwx_log_assert(log, 31, 1);
	rwx_log_assert(log, 32, 0);
	rwx_log_assert(log, 33, 0);

	/* Reading maps a page writable, which counts as writing, if it can be written. */
	rwx_set(g, 30, 3, KMA_NW);
	rwx_allowed(g, RWX_READ, 30);
	rwx_allowed(g, RWX_READ, 31);
	rwx_log_fetch(log);
	for (u64 page = 30; page < 34; page++)
		rwx_log_assert(log, page, 0);
}

TEST_F(dirty, end_of_the_log_makes_uniform_blocks_whole_with_their_rights)
{
	struct rwx_guest *g = &self->g;
	struct rwx_log *log = &self->log;
	u64 word;

	for_each_word(word) {
		rwx_set(g, 0, RWX_BLOCK, word);
		rwx_set(g, RWX_BLOCK + 5, 1, word);
		rwx_log_set(log, true);
		for (u64 page = 0; page < 2 * RWX_BLOCK; page += 3)
			rwx_allowed(g, RWX_READ, page);
		rwx_check_all(g, RWX_BLOCK + 5, word);
		RWX_ASSERT_BLOCKS(g, 0, 0);

		rwx_log_set(log, false);
		if (rwx_tdp_mmu())
			RWX_ASSERT_BLOCKS(g, 1, 0);
		else
			RWX_ASSERT_MAPS(g, 3, PG_LEVEL_2M);
		rwx_check_all(g, 300, word);
		rwx_check_all(g, RWX_BLOCK + 5, word);
		rwx_check_all(g, RWX_BLOCK + 6, 0);

		rwx_set(g, 0, 2 * RWX_BLOCK, 0);
		rwx_unmap(g);
		RWX_ASSERT_MAPS(g, 0, PG_LEVEL_2M);
		rwx_unmap(g);
	}
}

/* Each page has been mapped with fewer rights than the block has in the end. */
TEST_F(dirty, end_of_the_log_leaves_granted_pages_usable)
{
	struct rwx_guest *g = &self->g;
	struct rwx_log *log = &self->log;
	u64 word;

	for_each_word(word) {
		rwx_log_set(log, true);
		rwx_set(g, 0, RWX_BLOCK, word);
		for (u64 page = 0; page < RWX_BLOCK; page += 3)
			rwx_allowed(g, RWX_READ, page);
		rwx_set(g, 0, RWX_BLOCK, 0);
		rwx_log_set(log, false);
		rwx_check_all(g, 3, 0);
		rwx_check_all(g, 301, 0);
		rwx_unmap(g);
	}
}

/* Everything in one page of 1 GiB, which takes long to get. */
FIXTURE(giant) {
	struct memory m;
	bool pool;
};

FIXTURE_SETUP(giant)
{
	self->pool = true;
	TEST_ASSERT_EQ(kma_giant_pages(1), 1);
	memory_init(&self->m, KVM_X86_DEFAULT_VM, RWX_GIB, VM_MEM_SRC_ANONYMOUS_HUGETLB_1GB);
}

/* In the parent, when the process that has mapped it is gone. */
FIXTURE_TEARDOWN_PARENT(giant)
{
	if (self->pool)
		kma_giant_pages(0);
}

TEST_F_TIMEOUT(giant, all_of_it_in_a_page_of_1_gib, 300)
{
	static void (* const steps[])(struct memory *) = {
		restricted_page_splits_what_has_it_and_no_more,
		no_access_in_a_block_leaves_the_rest_of_it,
		range_across_two_blocks_splits_both,
		restricted_block_is_one_page_with_fewer_rights,
		restricted_block_of_a_larger_page_is_one_page,
		granted_page_becomes_part_of_a_huge_page_again,
		grant_without_a_larger_page_zaps_nothing,
		granted_block_zaps_nothing_and_can_be_used,
		grant_within_a_restricted_block_is_for_that_page_only,
		exchanged_restrictions_are_both_in_force,
		slot_created_later_has_huge_pages_where_uniform,
	};
	struct rwx_guest *g = &self->m.g;

	for (int i = 0; i < ARRAY_SIZE(steps); i++) {
		steps[i](&self->m);
		rwx_set(g, 0, g->nr_pages + 1, 0);
		rwx_unmap(g);
	}
}

/* In a guest of its own, which has executed none of it. */
TEST_F_TIMEOUT(giant, splitting_a_page_of_1_gib_restores_no_right, 300)
{
	struct rwx_log log;

	rwx_log_init(&log, &self->m.g,
		     KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE | KVM_DIRTY_LOG_INITIALLY_SET);
	split_for_the_log(&self->m.g, &log);
	rwx_log_free(&log);
}

TEST_HARNESS_MAIN
